"""The page for Prometheus: both formats, the figures of what was done, and those of servers that are away."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.unit.web.batches import bulk, put
from tests.waiting import wait_until
from writebehind.change_stream.listener_state import ListenerState
from writebehind.errors import RedisUnavailableError
from writebehind.monitoring import page
from writebehind.monitoring.families import PAGE
from writebehind.operations.pausing import pause, resume
from writebehind.reconcile.losses import Fate
from writebehind.redis import keys
from writebehind.redis.shared.workers import Workers
from writebehind.tallies import tallies as tallies_module
from writebehind.tallies.families import FAMILIES, WRITES
from writebehind.tallies.tallies import Tallies

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


#: Labels, sorted.
USERS = (("collection", "users"),)
HITS, MISSES = ((*USERS, ("source", source)) for source in ("hit", "miss"))


def figures(client) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of the page, by its name and labels."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    families = parse_text(answer.text)
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for each in families for one in each.samples}


class Since:
    """Figures of what was done since: the application is that of all tests."""

    def __init__(self, client) -> None:
        self._client = client
        self._before = figures(client)

    def __call__(self, name: str, labels: tuple[tuple[str, str], ...] = ()) -> float:
        return figures(self._client)[name, labels] - self._before.get((name, labels), 0)


@pytest.fixture
def since(client) -> Since:
    return Since(client)


def test_both_formats(client):
    """Prometheus's text by default, OpenMetrics where it is wanted; both can be parsed, and say what they are."""
    text, openmetrics = client.get("/metrics"), client.get("/metrics", headers={"Accept": OPENMETRICS})

    assert text.content_type.startswith("text/plain; version=")
    assert openmetrics.content_type.startswith(OPENMETRICS)
    assert openmetrics.text.endswith("# EOF\n")
    names = {one.name for one in parse_text(text.text)}
    assert FAMILIES.keys() <= names
    assert {one.name for one in parse_openmetrics(openmetrics.text)} >= FAMILIES.keys()


def test_every_family_is_described(client):
    """What stands on the page is what is described: panels and alert rules are held against the description."""
    client.put("/v1/users/ada", json={"name": "Ada"})
    found = {one.name: one for one in parse_text(client.get("/metrics").text)}

    assert found.keys() <= PAGE.keys()
    assert {name: PAGE[name].kind.value for name in found} == {name: one.type for name, one in found.items()}
    labels = {name: {key for each in one.samples for key in each.labels} - {"le"} for name, one in found.items()}
    assert {name: set(PAGE[name].labels) for name, some in labels.items() if some} == {
        name: some for name, some in labels.items() if some
    }
    # The rest is of what this system lacks: a listener, a replica, facts that these servers do not tell.
    assert PAGE.keys() - found.keys() <= {
        name for name in PAGE if "_listener_" in name or "_redis_" in name or "_mongodb_" in name
    } | {
        *("writebehind_reconciled_equal_ratio", "writebehind_consistency_observed_age_seconds"),
        *(f"writebehind_seconds_until_{what}" for what in ("safe", "drained", "cap")),
    }


def test_reads_and_writes_are_counted(client, since):
    """Each by its collection; reads by where the answer came from, and those of what does not exist too."""
    client.put("/v1/users/ada", json={"name": "Ada"})
    for _ in range(3):
        client.get("/v1/users/ada")
    for _ in range(2):
        client.get("/v1/users/nobody")

    assert since("writebehind_writes_total", USERS) == 1
    assert since("writebehind_reads_total", HITS) == 4
    assert since("writebehind_reads_total", MISSES) == 1
    assert since("writebehind_read_duration_seconds_count", HITS) == 4
    assert since("writebehind_negative_hits_total", USERS) == 1
    assert since("writebehind_loaded_documents_total", USERS) == 1
    assert since("writebehind_pending_documents") == 1
    assert since("writebehind_acknowledged_writes_total") == 1


def test_what_a_condition_needs_is_no_read_of_a_client(client, since):
    """A patch reads the document that it changes: the hit ratio is that of clients."""
    client.put("/v1/users/ada", json={"name": "Ada"})
    client.patch("/v1/users/ada", json={"age": 36}, content_type="application/merge-patch+json")
    client.get("/v1/users/ada")

    assert since("writebehind_writes_total", USERS) == 2
    assert since("writebehind_reads_total", HITS) == 1


def test_several_at_once_are_counted_one_by_one(client, since):
    """A bulk request is as many writes as it has, and a multi-get as many reads."""
    bulk(client, *(put(one, name="N") for one in "abc"))
    client.post("/v1/users:get", json={"ids": ["a", "b", "z"]})

    assert since("writebehind_writes_total", USERS) == 3
    assert since("writebehind_reads_total", HITS) == 2
    assert since("writebehind_reads_total", MISSES) == 1


def test_a_write_that_is_not_taken_is_no_acknowledged_one(client, since):
    """Whatever the reason."""
    client.put("/v1/users/ada", json=["no document"])
    client.put("/v1/users/ada", json={"name": "Ada"}, headers={"If-Match": '"0"'})
    client.put("/v1/users/ada", json={"name": "Ada"})

    assert since("writebehind_writes_total", USERS) == 1


def failed(collection: str, reason: str, what: str = "reads") -> tuple[str, tuple[tuple[str, str], ...]]:
    return f"writebehind_failed_{what}_total", (("collection", collection), ("reason", reason))


def test_reads_that_fail_are_counted_by_the_reason(client, installation, sink, since, monkeypatch):
    """Each request is one, whatever it reads by; what is not there, or wrong, has been answered."""

    def refuse(*_: object) -> None:
        raise RedisUnavailableError

    def failed_in_all() -> float:
        return sum(
            value for (name, _), value in figures(client).items() if name == "writebehind_failed_reads_total"
        )

    before = failed_in_all()
    assert client.get("/v1/people/nobody").status_code == 404
    assert client.get("/v1/people?shoe=1").status_code == 400
    sink.down = True
    for answer in (
        client.get("/v1/people/ada"),
        client.head("/v1/people/ada"),
        client.post("/v1/people:get", json={"ids": ["ada", "eve"]}),
        client.get("/v1/people?username=ada"),
        client.get("/v1/asked/queries/all"),
        client.patch("/v1/people/ada", json={"n": 1}, content_type="application/merge-patch+json"),
    ):
        assert answer.status_code == 503
    monkeypatch.setattr(installation.wire, "exchange", refuse)
    assert client.get("/v1/strict/ada").status_code == 503

    assert since(*failed("people", "mongodb-away")) == 4
    assert since(*failed("asked", "mongodb-away")) == 1
    assert since(*failed("strict", "redis-away")) == 1
    assert failed_in_all() - before == 6


def test_writes_that_fail_are_counted_by_the_reason(client, installation, since, monkeypatch):
    """Each of a bulk is one, also where the bulk fails as a whole; a request that is wrong in itself is none."""

    def refuse(*_: object) -> None:
        raise RedisUnavailableError

    client.put("/v1/strict/ada", json={"name": "Ada"})
    assert client.put("/v1/strict/ada", json={"_v": 1}).status_code == 422
    assert client.put("/v1/strict/ada", json={"name": "A"}, headers={"If-None-Match": "*"}).status_code == 412
    assert client.delete("/v1/strict/ada", headers={"If-Match": f'"{"0" * 32}"'}).status_code == 412
    [_, stale, wrong] = bulk(
        client,
        put("eve", name="E"),
        put("ada", name="A") | {"if_match": "0" * 32},
        put("bob", _v=1),
        collection="strict",
    )
    assert (412, 422) == (stale["status"], wrong["status"])
    monkeypatch.setattr(installation.wire, "exchange", refuse)
    assert client.put("/v1/strict/ada", json={"name": "A"}).status_code == 503
    items = [put(one, name="A") for one in "abcd"]
    assert client.post("/v1/strict:bulk?durability=fsynced", json=items).status_code == 501

    assert since(*failed("strict", "condition", "writes")) == 3
    assert since(*failed("strict", "redis-away", "writes")) == 1
    assert since(*failed("strict", "durability-not-offered", "writes")) == 4
    assert since("writebehind_writes_total", (("collection", "strict"),)) == 2


def test_events_of_the_listener(client, installation):
    """All of them are one series, as what became of them may be several things or none."""
    noted = ListenerState(at_ms=1, events=9, ours=4, invalidated=3, conflicts=2, overtaken=1)
    installation.wire.call("SET", keys.LISTENER, noted.dump())

    found = {key: value for key, value in figures(client).items() if key[0].startswith("writebehind_listener_")}

    assert found["writebehind_listener_events_total", ()] == 9
    outcomes = {labels: value for (name, labels), value in found.items() if "outcomes" in name}
    of = {"ours": 4, "invalidated": 3, "conflicts": 2, "overtaken": 1, "skipped": 0}
    assert outcomes == {(("outcome", name),): value for name, value in of.items()}


def test_refused_writes_are_there_before_the_first(client):
    """A series that begins with its first refusals has no rate that tells of them."""
    refused = {labels for name, labels in figures(client) if name == "writebehind_refused_writes_total"}

    caps = ("pending", "memory", "dead-letters", "redis-full")
    assert refused >= {(("cap", cap), *one) for cap in caps for one in (USERS, (("collection", "orders"),))}


def test_lost_writes_are_there_before_the_first(client):
    """Of each fate: an alert looks at the first ones too."""
    lost = {dict(labels)["fate"] for name, labels in figures(client) if name == "writebehind_lost_writes_total"}

    assert lost == {fate.value for fate in Fate}


def test_those_who_ask_at_once_get_the_same_page(client, installation, monkeypatch):
    """It is made once, also where it takes long: a hanging server is asked once, and not by each scrape."""
    shown = page.Page(installation.pipeline)
    asking: list[int] = []
    made: list[str] = []

    def collect() -> Iterator[Any]:
        made.append("page")
        wait_until(lambda: len(asking) == 8, "all to be on their way")
        time.sleep(0.2)
        return iter(())

    def ask(number: int) -> bytes:
        asking.append(number)
        return shown.render("")[0]

    monkeypatch.setattr(shown._registry, "collect", collect)
    with ThreadPoolExecutor(8) as threads:
        pages = {*threads.map(ask, range(8))}

    assert (len(made) <= 2, len(pages)) == (True, 1)


def test_without_redis_the_page_says_so(client, installation, since, monkeypatch):
    """What this host counted is shown all the same: who is woken at night needs it then."""

    def refuse(*_: object) -> None:
        raise RedisUnavailableError

    client.put("/v1/users/ada", json={"name": "Ada"})
    monkeypatch.setattr(installation.wire, "exchange", refuse)

    found = figures(client)
    assert found["writebehind_redis_up", ()] == 0
    assert ("writebehind_pending_documents", ()) not in found
    assert since("writebehind_writes_total", USERS) == 1


def test_without_mongodb_the_page_says_so(client, sink):
    """The backlog is shown, which is what grows then."""
    client.put("/v1/users/ada", json={"name": "Ada"})
    sink.down = True

    found = figures(client)
    assert (found["writebehind_mongodb_up", ()], found["writebehind_redis_up", ()]) == (0, 1)
    assert found["writebehind_pending_documents", ()] == 1


def test_a_host_that_is_cut_off_from_mongodb_says_so(client, installation, sink):
    """Be it that others persist: the status takes that for a MongoDB that answers, and nobody is sent to it."""
    sink.down = True
    now_s = installation.pipeline.store.now_ms() // 1000
    installation.wire.call("HSET", keys.FLUSHED, *(one for at in range(60) for one in (now_s + at, 7)))

    assert 0 == figures(client)["writebehind_mongodb_up", ()]
    status = client.get("/admin/status").json
    assert (None, True) == (status["mongodb_error"], "on purpose" in status["mongodb_ping_error"])


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_the_page_is_only_read(client, method):
    """Another method is none of its."""
    assert client.open("/metrics", method=method).status_code == 405


def test_workers_are_told_by_what_they_do(installation, since):
    """One is at work, one is full of a long task, and one is silent."""
    workers, wire = Workers(installation.wire), installation.wire
    workers.record_proof("idle@a", ["flush"])
    workers.record_held("full@a", full_s=60.0)
    workers.record_proof("gone@a", ["flush"])
    wire.call("ZADD", keys.WORKERS, wire.now_ms() - 60_000, "gone@a")

    figures = ("writebehind_workers", "writebehind_busy_workers", "writebehind_silent_workers")
    assert [2, 1, 1] == [since(name) for name in figures]


def test_counts_that_cannot_be_read_are_on_no_page(installation, tmp_path, caplog, monkeypatch):
    """Rather than noughts, which are new beginnings to Prometheus; it is said once, and once when it is over."""
    monkeypatch.setattr(tallies_module, "LOOK_EVERY_S", 4e9)  # no thread makes the directory again: the test does
    counts = tmp_path / "counts"
    tallies = Tallies(counts)
    tallies.add(WRITES, ("users",))
    shown = page.Page(installation.pipeline, tallies)
    assert WRITES.name in shown.render("")[0].decode()

    shutil.rmtree(counts)
    for _ in range(3):
        text = shown.render("")[0].decode()
        assert (WRITES.name in text, "writebehind_redis_up 1.0" in text) == (False, True)
    tallies.look()
    assert 'writebehind_writes_total{collection="users"} 1.0' in shown.render("")[0].decode()

    events = [one.event for one in caplog.records if hasattr(one, "event")]
    assert ["counts_unreadable", "counts_moved", "counts_readable"] == events


def test_a_pause_of_some_is_told_apart_from_one_of_all(client, application):
    """What is paused is not missed; all else is, so that an alert has to know which."""

    def paused() -> tuple[float, float]:
        told = figures(client)
        all_of_them, some = (told["writebehind_flushing_paused", (("scope", one),)] for one in ("all", "some"))
        return all_of_them, some

    pipeline = application.pipeline
    assert (0, 0) == paused()
    pause(pipeline, "users")
    assert (0, 1) == paused()
    pause(pipeline)
    assert (1, 1) == paused()
    resume(pipeline)
    assert (0, 0) == paused()
    assert 0 == figures(client)["writebehind_overdue_seconds", ()]
