"""What the doctor says of replicas, and of Sentinels: what a failover keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from click.testing import CliRunner

from tests.integration.conftest import environment
from tests.integration.doctor.conftest import found
from tests.topologies import SERVICE, Sentinels, ask
from tests.waiting import wait_until
from writebehind import Pipeline
from writebehind.cli import cli
from writebehind.errors import RedisUnavailableError
from writebehind.operations.doctor import Finding, Level, failover
from writebehind.operations.doctor.clocks import behind_s
from writebehind.redis.topology.opening import open_servers
from writebehind.redis.wire import Wire

FIT = {"min-replicas-to-write": "1", "min-replicas-max-lag": "1", "replica-serve-stale-data": "no"}


@pytest.fixture(scope="module")
def watched(tmp_path_factory) -> Iterator[Sentinels]:
    with Sentinels(tmp_path_factory.mktemp("watched"), replicas=2) as sentinels:
        yield sentinels


@pytest.fixture
def fit(watched, settings, mongo_client) -> Iterator[Pipeline]:
    """A pipeline on servers that are as they should be."""
    for server in watched.servers:
        for name, value in (*FIT.items(), ("appendonly", "yes")):
            server.ask("CONFIG", "SET", name, value)
    wait_until(watched.is_whole, "all to be there", 30)
    wire = Wire(open_servers(watched.url, 2_000))
    yield Pipeline(settings.model_copy(update={"redis_url": watched.url}), wire=wire, client=mongo_client)
    wire.close()


def judged(pipeline: Pipeline) -> list[Finding]:
    return [*failover.check(pipeline)]


def in_order(pipeline: Pipeline) -> list[Finding]:
    """What is judged, if all of it is in order."""
    found = judged(pipeline)
    assert {Level.OK} == {one.level for one in found}, found
    return found


def test_all_is_fit(fit):
    """Servers as the doctor would have them are in order, each with what it is."""
    checks = ("sentinels", "failover", "failover by hand", "replica", "replica")
    found = wait_until(lambda: in_order(fit), "a replica that has joined, or was late, to be in order", 30)
    assert [f"redis {one}" for one in checks] == [one.check for one in found]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("min-replicas-to-write", "0", "CONFIG SET min-replicas-to-write 1 min-replicas-max-lag 1"),
        ("min-replicas-max-lag", "10", "CONFIG SET min-replicas-max-lag 1"),
        ("replica-serve-stale-data", "yes", "CONFIG SET replica-serve-stale-data no"),
    ],
)
def test_a_primary_that_is_cut_off(fit, watched, name, value, said):
    """A primary that would go on alone, or longer than until the failover, is a warning that says what to set."""
    watched.primary.ask("CONFIG", "SET", name, value)
    one = found(fit, "redis failover")
    assert (Level.WARNING, True, True) == (one.level, said in one.advice, name in one.found)


def test_all_that_is_wrong_is_told_at_once(fit, watched):
    """Nobody has to mend one thing to hear of the next."""
    for name, value in (("min-replicas-to-write", "0"), ("replica-serve-stale-data", "yes")):
        watched.primary.ask("CONFIG", "SET", name, value)
    told = [one.advice.partition(" on each")[0] for one in judged(fit) if one.check == "redis failover"]
    fence = "CONFIG SET min-replicas-to-write 1 min-replicas-max-lag 1"
    assert [fence, "CONFIG SET replica-serve-stale-data no"] == told


def group_of(least: str | None, replicas: int, *, timeout_ms: str | None = None) -> failover.Group:
    config = FIT | {"min-replicas-to-write": least, "cluster-node-timeout": timeout_ms}
    facts = {"cluster_enabled": "1"} if timeout_ms else {}
    return failover.Group("a", facts, config, [("127.0.0.1", port) for port in range(replicas)])


@pytest.mark.parametrize(
    ("least", "replicas", "fence", "advice"),
    [
        ("1", 1, "1 replica, and min-replicas-to-write 1: no", "have 2 replicas"),
        ("0", 1, "1 replica, and min-replicas-to-write 0; with 1: no", "have 2 replicas"),
        ("2", 2, "2 replicas, and min-replicas-to-write 2: no", "have 3 replicas"),
        ("1", 2, "", None),
    ],
)
def test_a_failover_after_which_nothing_is_written(least, replicas, fence, advice):
    """As many replicas as it takes writes with are one too few: one of them becomes the primary."""
    told = [*failover.fence(group_of(least, replicas), 1, None)]
    spare = [one for one in told if "no writes after a failover" in one.found]
    assert ([(Level.WARNING, advice)] if advice else []) == [(one.level, one.advice) for one in spare]
    assert all(fence in one.found for one in spare)


def test_the_lag_of_a_cluster(fit, monkeypatch):
    """The advice has the figure that `doctor --config` prints, which is that of its nodes."""
    group = group_of("0", 2, timeout_ms="3000")
    (one,) = failover.fence(group, 1, None)
    assert "min-replicas-max-lag 1 on" in one.advice
    more = {"appendfsync": "everysec", "maxmemory-policy": "noeviction"}
    monkeypatch.setattr(failover, "groups", lambda _: [replace(group, config={**group.config, **more})])
    assert "min-replicas-max-lag 1" in [*failover.configuration(fit)]


@pytest.mark.parametrize(
    ("replicas", "confirming", "said"),
    [
        (1, 1, []),
        (2, 1, ["a: replicated waits for 1 of 2 replicas: SENTINEL FAILOVER <name> COORDINATED keeps all of it"]),
        (2, 2, ["a: replicated waits for 2 of 2 replicas: nothing of it is lost"]),
        (3, 2, ["without that word confirm_replicas=3 does"]),
    ],
)
def test_a_failover_by_hand(replicas, confirming, said):
    """Where one of several replicas need not confirm, it is said what such a failover takes."""
    group = failover.Group("a", {}, {}, [("127.0.0.1", port) for port in range(replicas)])
    told = [*failover.by_hand(group, confirming)]
    assert [Level.OK] * len(said) == [one.level for one in told]
    assert all(some in one.found for some, one in zip(said, told, strict=True))


def test_a_replica_without_a_file(fit, watched):
    """A replica that keeps nothing on disk confirms nothing, and its name is told."""
    replica = next(one for one in watched.servers if one is not watched.primary)
    replica.ask("CONFIG", "SET", "appendonly", "no")
    one = found(fit, "redis replica")
    assert (Level.WARNING, True) == (one.level, f"127.0.0.1:{replica.port}" in one.found)


@pytest.mark.parametrize(("seconds", "said"), [(3, "s behind"), (-3, "s ahead of"), (1, "")])
def test_the_clock_of_a_replica(fit, monkeypatch, seconds, said):
    """A clock that differs by more than versions leap is a warning, in either direction."""
    clocks_ms = fit.store.clocks_ms
    monkeypatch.setattr(
        fit.store, "clocks_ms", lambda: {name: at + seconds * 1000 for name, at in clocks_ms().items()}
    )
    one = next(one for one in judged(fit) if one.check == "redis replica")
    assert (Level.WARNING if said else Level.OK, True) == (one.level, said in one.found)


def test_a_machine_that_stands_still_sets_no_clock(fit, monkeypatch):
    """Seconds between the question to a replica and the one to its primary are no difference of their clocks."""
    clocks_ms, passed_s = fit.store.clocks_ms, iter(range(0, 1_000, 5))
    monkeypatch.setattr(
        fit.store,
        "clocks_ms",
        lambda: {name: at + late_s * 1000 for late_s in [next(passed_s)] for name, at in clocks_ms().items()},
    )
    found = next(one for one in judged(fit) if one.check == "redis replica")
    assert found.level is Level.OK, found


@pytest.mark.parametrize(
    ("told", "behind"), [(999, 0.001), (1_000, 0), (3_000, 0), (5_000, 0), (7_000, -2), (0, 1)]
)
def test_what_can_be_seen_of_a_clock(told, behind):
    """A clock differs by what the time between question and answer does not account for."""
    assert behind == behind_s(told, 1_000, 5_000)


def test_a_replica_that_is_not_there(fit, monkeypatch):
    """A replica that cannot be asked from here is a warning, and no end of the examination."""
    monkeypatch.setattr(failover, "replicas_of", lambda _: [("127.0.0.1", 9)])
    one = found(fit, "redis replica")
    assert (Level.WARNING, True) == (one.level, "127.0.0.1:9 does not answer" in one.found)


def test_a_sentinel_that_is_away(fit, watched):
    """A Sentinel that does not answer is named; the others are still asked."""
    away = watched.sentinels[1]
    away.kill()
    try:
        assert [(Level.WARNING, True)] == [
            (one.level, str(away.port) in one.found) for one in judged(fit) if one.check == "redis sentinels"
        ]
    finally:
        away.start()


@pytest.mark.parametrize(
    ("said", "level"),
    [
        ({"quorum": "4"}, Level.FAILURE),
        ({"num-other-sentinels": "1"}, Level.WARNING),
        ({"down-after-milliseconds": "30000"}, Level.WARNING),
        ({}, Level.OK),
    ],
)
def test_sentinels(said, level):
    """Sentinels that can never agree are a failure; too few, or slow ones, a warning."""
    one = {"quorum": "2", "num-other-sentinels": "2", "down-after-milliseconds": "3000"} | said
    assert [level] == [finding.level for finding in failover.sentinels({"a": one})]
    assert [] == [*failover.sentinels({})]
    assert [Level.WARNING] == [one.level for one in failover.sentinels({"a": RedisUnavailableError("away")})]


def test_the_configuration_is_printed(fit, watched, monkeypatch):
    """`doctor --config` prints what servers take as it is, after which nothing is left to warn of."""
    for server in watched.servers:
        server.ask("CONFIG", "SET", "min-replicas-to-write", "0", "min-replicas-max-lag", "10")
    for name, value in environment(fit.settings).items():
        monkeypatch.setenv(name, value)

    done = CliRunner().invoke(cli, ["doctor", "--config"], catch_exceptions=False)

    lines = [line.split() for line in done.stdout.splitlines() if line and not line.startswith("#")]
    for line in lines:
        if line[0] != "sentinel":
            for server in watched.servers:
                assert b"OK" == server.ask("CONFIG", "SET", *line)
    wait_until(lambda: in_order(fit), "nothing to be left to warn of", 30)
    assert ["sentinel", "monitor", SERVICE, "127.0.0.1", str(watched.primary.port), "2"] in lines
    assert b"OK" == ask(watched.sentinels[0].port, "SENTINEL", "SET", SERVICE, "quorum", 2)


@pytest.mark.parametrize(("down_ms", "lag_s"), [(5_000, 3), (None, 3), (30_000, 8), (1_000, 1)])
def test_a_primary_is_known_to_be_alone_before_its_failover(down_ms, lag_s):
    """Replicas count as away so early that all processes have seen it by then."""
    assert lag_s == failover.lag_s(down_ms)
