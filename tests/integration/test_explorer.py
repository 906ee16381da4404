"""One document, as a person sees it who asks what became of a write."""

from __future__ import annotations

import orjson
import pytest

from tests.proxy import Proxy
from writebehind import Pipeline, connect
from writebehind.errors import InvalidIdError, UnknownCollectionError
from writebehind.flushing.dead_letter import DeadLetter
from writebehind.operations.drain import drain
from writebehind.operations.explorer import MOST_SHOWN_BYTES, explore


def test_a_document_that_nobody_knows_is_nowhere(pipeline):
    """That is an answer, and no error."""
    seen = explore(pipeline, "users", "nobody")
    assert (None, "absent", None, []) == (
        *(seen["redis"]["entry"], seen["mongodb"]["state"]),
        *(seen["pending"], seen["dead_letters"]),
    )


def test_a_pending_document_has_its_place(pipeline):
    """It is due in a minute, behind the one that was written before, and MongoDB does not have it."""
    slow = pipeline.collection("slow")
    names = [f"{n}" for n in range(40) if pipeline.store.partition_of(f"slow/s:{n}") == 1][:2]
    for name in names:
        written = slow.put(name, {"name": name})
    seen = explore(pipeline, "slow", names[1])

    entry, pending = seen["redis"]["entry"], seen["pending"]
    assert ("document", written.version, None) == (entry["state"], entry["version"], entry["ttl_seconds"])
    assert {"_id": names[1], "name": names[1]} == _read(entry["document"])
    assert (2, 2, None, 0) == (pending["place"], pending["of"], pending["sent"], pending["attempts"])
    assert 50 < pending["due_in_seconds"] <= 60
    assert 0 <= pending["seconds"] < 10
    assert (1, "absent") == (seen["partition"], seen["mongodb"]["state"])


def test_a_persisted_document_is_in_both(pipeline, users):
    """With the same version, and with a TTL in Redis; a deletion is known until its audit."""
    written = users.put("ada", {"name": "Ada"})
    drain(pipeline, timeout_s=10)
    seen = explore(pipeline, "users", "ada")
    assert (written.version, written.version) == (seen["redis"]["entry"]["version"], seen["mongodb"]["version"])
    assert (
        {"_id": "ada", "name": "Ada"}
        == _read(seen["mongodb"]["document"])
        == _read(seen["redis"]["entry"]["document"])
    )
    assert seen["redis"]["entry"]["ttl_seconds"] > 0
    assert seen["pending"] is None

    deleted = users.delete("ada")
    drain(pipeline, timeout_s=10)
    seen = explore(pipeline, "users", "ada")
    assert ("deleted", "absent") == (seen["redis"]["entry"]["state"], seen["mongodb"]["state"])
    assert deleted.version == seen["redis"]["deletion_to_audit"]


def test_what_mongodb_refuses_is_a_letter(pipeline, users):
    """It is not pending any more, and says why."""
    member = users.id("ada").member
    version = users.put("ada", {"name": 1}).version
    entry, _ = pipeline.store.cache.get(member)
    letter = DeadLetter.refused(member, entry, "no", code=121, attempts=2, over=0)
    pipeline.store.pending.bury(member, f"{version:016d}", letter.dump())
    seen = explore(pipeline, "users", "ada")
    assert (None, [("refused", 121, version)]) == (
        seen["pending"],
        [(one["reason"], one["code"], one["version"]) for one in seen["dead_letters"]],
    )


def test_a_large_document_is_not_shown(pipeline, users):
    """Its size is, and its version, in Redis and in MongoDB."""
    written = users.put("large", {"text": "x" * MOST_SHOWN_BYTES})
    drain(pipeline, timeout_s=10)
    seen = explore(pipeline, "users", "large")
    for one in (seen["redis"]["entry"], seen["mongodb"]):
        assert (written.version, None, True) == (one["version"], one["document"], one["is_too_large"])
    assert seen["redis"]["entry"]["document_bytes"] > MOST_SHOWN_BYTES


def test_who_loads_a_document_is_shown(pipeline):
    """By the beginning of the token, and for how long."""
    pipeline.store.loads.get_or_lease("users/s:ada", "0123456789abcdef-token", life_ms=5_000)
    loading = explore(pipeline, "users", "ada")["redis"]["loading"]
    assert ("0123456789abcdef", False) == (loading["token"], loading["is_refresh"])
    assert 0 < loading["seconds_left"] <= 5


def test_a_mongodb_that_does_not_answer_leaves_what_redis_has(pipeline, settings, mongo):
    """The state is unknown, with the reason."""
    with Proxy(mongo.port) as proxy:
        url = f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true"
        with connect(settings.model_copy(update={"mongodb_url": url, "mongodb_timeout_ms": 500})) as cut_off:
            proxy.hang()
            pipeline.collection("users").put("ada", {"name": "Ada"})
            seen = explore(cut_off, "users", "ada")
    assert ("unknown", "document") == (seen["mongodb"]["state"], seen["redis"]["entry"]["state"])
    assert seen["mongodb"]["error"]


def test_what_other_hands_have_put_there_is_unreadable(pipeline: Pipeline):
    """And does not break the page."""
    pipeline._wire.call("SET", pipeline.store.cache.key("users/s:ada"), b"no entry")
    assert "unreadable" == explore(pipeline, "users", "ada")["redis"]["entry"]["state"]


def test_ids_are_those_of_the_collection(pipeline):
    """As on every other route."""
    with pytest.raises(InvalidIdError):
        explore(pipeline, "users", "x" * 600)
    with pytest.raises(UnknownCollectionError):
        explore(pipeline, "nothing", "ada")


def _read(document) -> object:
    return orjson.loads(orjson.dumps(document))
