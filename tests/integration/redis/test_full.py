"""Each atomic step in a Redis whose memory is used up: those that take in data are refused, all others run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import writebehind.redis
from tests.commits import commit_one
from tests.conftest import KINDS_OF_REDIS
from tests.dead_letters import letters_of
from tests.integration.conftest import full
from tests.integration.dead_letters.conftest import bury
from tests.integration.redis.conftest import is_pending
from writebehind.errors import RedisFullError
from writebehind.flushing.dead_letter import Filter, Reason
from writebehind.redis.commits import CommitRequest
from writebehind.redis.scripts import script
from writebehind.redis.store import Store
from writebehind.redis.wire import Wire

STEPS = sorted(path.stem for path in (Path(writebehind.redis.__file__).parent / "lua").glob("*.lua"))
TOKEN = ("SET", "{k}:load", "t")
#: Of each step that takes in data what is there before, its keys and arguments, and what it answers in a Redis
#: that is full, where it does not leave that to the server.
REFUSED: dict[str, tuple[list[tuple[str, ...]], tuple[str, ...], tuple[object, ...], object]] = {
    "commit": ([], tuple(f"{{k}}:{n}" for n in range(10)), ("users/s:a", "X", "", 9, 0, 9, 0, 9), None),
    "fill": (
        [TOKEN],
        ("{k}:entry", "{k}:load", "{k}:deleted", "{k}:pending", "{k}:hot", "{k}:heat"),
        ("t", "0000000000000001N", 9_000, "users/s:a", 9_000, "", 0, 0),
        3,
    ),
    "note_request": (
        [],
        ("{k}:receipts", "{k}:receipts_at", "{k}:fates", "{k}:counts"),
        ("users/key", "0" * 49, 9_000, 9, 90, 1_000),
        None,
    ),
    "fill_derived": ([TOKEN], ("{k}:alias", "{k}:load"), ("t", "users/s:a", 9_000), None),
    "add_samples": ([], ("{k}:consistency", "{k}:inconsistent"), (9, 9, 1, "users looks", 1, "one"), None),
    "receive_keys": (
        [("HSET", "{k}:load", "expected:1", "t")],
        ("{k}:load", "{k}:copy"),
        ("1", "t", 0, b'\x00\x01x\n\x00"\x80\x86_\xbd\xe8H\xd0'),  # the string x, as Redis 7.0 dumps it
        None,
    ),
    "receive": ([TOKEN], ("{k}:load", "{k}:copy"), ("t", "SET", "x"), None),
    "tell_apart": ([], ("{k}:labels",), (9, "users"), None),
    "add_heat": ([], ("{k}:hot", "{k}:heat", "{k}:warmed"), (9, "users/s:a", 1), None),
}


@pytest.fixture(params=[kind for kind in KINDS_OF_REDIS if kind != "fakeredis"])
def wire(request, wires) -> Iterator[Wire]:
    """Each server that has a limit, as fakeredis has none."""
    yield from wires(request.param)


def test_each_step_that_takes_in_data_is_tried_here():
    """A new step without `allow-oom` has a row in the table of this module."""
    runs = {name for name in STEPS if "allow-oom" in script(name).source.partition("\n")[0]}
    assert set(STEPS) - runs == set(REFUSED)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_step_that_takes_in_data_is_refused(wire, name):
    """It stores nothing: what it writes first is refused. The server would let pass what follows a write."""
    before, keys, arguments, answer = REFUSED[name]
    for command in before:
        wire.call(*command)
    with full(wire):
        if answer is None:
            with pytest.raises(RedisFullError):
                wire.run(script(name), keys, arguments)
        else:
            assert answer == wire.run(script(name), keys, arguments)
        assert not set(wire.call("KEYS", "*")) - {b"{k}:load"}
    for command in before:
        wire.call(*command)
    wire.run(script(name), keys, arguments)
    assert set(wire.call("KEYS", "*")) - {b"{k}:load"}


def test_all_other_steps_run(wire):
    """The server begins them; without keys and arguments they end by errors of their own."""
    others = sorted(set(STEPS) - set(REFUSED))
    with full(wire):
        answers = next(iter(wire.on_each([("EVAL", script(name).source, 0) for name in others]).values()))
    assert [] == [name for name, answer in zip(others, answers, strict=True) if "OOM" in str(answer)]


@pytest.mark.parametrize("reason", [Reason.REFUSED, Reason.CONFLICT])
def test_a_dead_letter_is_replayed(wire, hints, reason):
    """What a full Redis has in dead letters may go to MongoDB, be it the entry or kept beside one."""
    store = Store(wire, database="shop", partitions=4, max_pending=9, tombstone_ttl_ms=60_000)
    letters = letters_of(store, hints)
    letter = bury(store, "ada", reason=reason)
    with full(wire):
        assert isinstance(commit_one(store, CommitRequest("users/s:bob", b"X", 0)).refusal, RedisFullError)
        assert [letter.member] == list(letters.replay(list(letters.all(Filter())), conflicts=True))
    assert is_pending(store, letter.member)
