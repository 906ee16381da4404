"""One of several named servers is away: who looks is told which one, and what the others know."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Hints
from tests.integration.conftest import environment
from tests.integration.dead_letters.conftest import bury
from tests.integration.topology.test_away import names_in
from tests.servers import freeze, http_server, resume
from tests.topologies import EveryWire, NamedServers
from tests.waiting import wait_until
from web.app import create_app
from writebehind import Pipeline, load_settings
from writebehind.cli import cli
from writebehind.conditions import Severity
from writebehind.errors import RedisUnavailableError
from writebehind.flushing.dead_letters import Filter
from writebehind.monitoring.page import Page
from writebehind.operations.doctor import Level, examine
from writebehind.operations.drain import drain
from writebehind.redis.topology.opening import open_servers

PARTITIONS = 16
TIMEOUT_MS = 500
#: How often the figures of all servers are asked for where that is looked at, seconds.
EVERY_S = 0.4
#: The first server, which has what belongs to no partition; and another one.
HOME, OTHER = "a", "c"
#: Figures that only the first one knows.
OF_HOME = {
    *("breaker", "breaker_reason", "breaker_since", "paused", "flushed_per_second", "workers", "busy_workers"),
    *(
        "silent_workers",
        "awaited_workers",
        "ended_workers",
        "consumers",
        "unconsumed",
        "periodic",
        "broker",
        "consistency",
        "listener",
        "caps",
        "exporter",
        "beat",
    ),
}


@dataclass(frozen=True)
class Away:
    """A pipeline on servers of which one is away, with a pending document and a dead letter in each partition."""

    name: str
    how: str
    pipeline: Pipeline
    lost: Sequence[int]
    variables: dict[str, str]

    @property
    def told(self) -> list[dict[str, Any]]:
        """What is told of it."""
        return [{"server": self.name, "partitions": self.lost}]

    @property
    def served(self) -> int:
        """The number of partitions that are served."""
        return PARTITIONS - len(self.lost)

    @property
    def is_home(self) -> bool:
        """Whether it has what belongs to no partition."""
        return self.name == HOME

    def get(self, path: str) -> Any:
        """An answer of the API."""
        return create_app(self.pipeline).test_client().get(path)

    def run(self, *arguments: str) -> Result:
        """A command in a process that has not seen these servers yet."""
        return CliRunner().invoke(cli, list(arguments), env=self.variables, catch_exceptions=False)


@pytest.fixture(
    scope="module", params=[(HOME, "dead"), (OTHER, "dead"), (OTHER, "hanging"), (OTHER, "foreign")], ids="-".join
)
def away(request, tmp_path_factory, mongo, mongo_client) -> Iterator[Away]:
    name, how = request.param
    directory = tmp_path_factory.mktemp(f"away-{name}-{how}")
    with NamedServers(directory) as servers, pytest.MonkeyPatch.context() as patch:
        (directory / "writebehind.toml").write_text("[collections.users]\nflush_delay_ms = 600000\n")
        patch.setenv("WRITEBEHIND_CONFIG", str(directory / "writebehind.toml"))
        settings = load_settings(
            redis_url=servers.url,
            mongodb_url=mongo.url,
            mongodb_database=directory.name,
            partitions=PARTITIONS,
            redis_timeout_ms=TIMEOUT_MS,
            confirm_timeout_ms=TIMEOUT_MS // 2,
            hot_samples=0,
        )
        wire = EveryWire(open_servers(settings.redis_url, TIMEOUT_MS))
        pipeline = Pipeline(settings, hints=Hints(), wire=wire, client=mongo_client)
        pipeline.check()
        for pending, dead in zip(names_in(pipeline, "p").values(), names_in(pipeline, "d").values(), strict=True):
            pipeline.collection("users").put(pending, {"n": 1})
            bury(pipeline.store, dead)
        pipeline.recorder().step()
        assert not pipeline.keyring.is_on()  # as each process that serves has found out
        lost = [one for one in range(PARTITIONS) if pipeline.store.server_of(one) == name]
        variables = environment(settings) | {"WRITEBEHIND_REDIS_TIMEOUT_MS": str(TIMEOUT_MS)}
        variables |= {"WRITEBEHIND_CONFIRM_TIMEOUT_MS": str(TIMEOUT_MS // 2)}
        with ExitStack() as undo:
            undo.callback(wire.close)
            if how == "hanging":
                freeze(servers.servers[name])
                undo.callback(resume, servers.servers[name])
            else:
                servers.servers[name].kill()
            if how == "foreign":
                undo.enter_context(http_server(servers.servers[name].port))
            yield Away(name, how, pipeline, lost, variables)


def test_a_status_says_what_is_missing(away: Away):
    """Sums are of what answers, nobody is told that all is safe, and what nobody knows is null."""
    status = away.get("/admin/status?partitions=true").json
    assert away.told == status["away"]
    assert (OF_HOME if away.is_home else set()) == set(status["unknown"])
    assert OF_HOME.intersection(name for name, value in status.items() if value is None) >= set(status["unknown"])
    assert (away.served, away.served) == (status["pending"], status["dead_letters"])
    assert {"users": away.served} == status["dead_letters_by_collection"]
    assert not status["safe"]
    assert (
        f"server {away.name} does not answer, which has {len(away.lost)} partitions" in status["not_safe_because"]
    )
    assert not {one["partition"] for one in status["by_partition"]}.intersection(away.lost)
    assert status["pending_bytes"] > 0


def test_nothing_pending_is_not_safe(away: Away):
    """What is on a server that does not answer may be pending."""
    looked = Pipeline(away.pipeline.settings, wire=away.pipeline.store._wire, client=away.pipeline._client)
    backlog = looked.store.metrics.backlog_answered
    looked.store.metrics.backlog_answered = lambda: [  # type: ignore[method-assign]
        replace(one, pending=0, dead=0, head=None, tail_ms=None) for one in backlog()
    ]
    status = looked.status()
    assert (0, 0, False, None) == tuple(
        status[name] for name in ("pending", "dead_letters", "safe", "seconds_until_safe")
    )


def test_the_command_says_it_first(away: Away):
    """In a terminal the first row; as JSON what the API says. The process is new, and knows no records."""
    shown = away.run("status")
    assert Severity.CRITICAL == shown.exit_code, shown.output
    first = shown.stdout.splitlines()[0]
    assert first.startswith("partial"), shown.stdout
    assert f"server {away.name} does not answer" in first
    assert away.told == json.loads(away.run("status", "--json").stdout)["away"]
    assert away.is_home == ("not known while that server does not answer" in " ".join(shown.stdout.split()))


def test_traffic_may_come(away: Away):
    """The other partitions are served; the answer says which ones are not."""
    answer = away.get("/readyz")
    report = answer.json
    assert (200, True, away.told) == (answer.status_code, report["ready"], report["away"])
    assert f"server {away.name} does not answer, which has {len(away.lost)} partitions" == report["redis"]
    assert (None if away.is_home else 0) == report["workers"]


def test_figures_for_prometheus_are_of_the_others(away: Away):
    """No counter falls, as if it had begun anew: those are left out."""
    page = Page(away.pipeline).render("")[0].decode()
    found = {one.name: one.samples for one in text_string_to_metric_families(page)}
    up = {one.labels["server"]: one.value for one in found["writebehind_redis_server_up"]}
    assert {"a": 1, "b": 1, "c": 1} | {away.name: 0} == up
    assert len(away.lost) == found["writebehind_partitions_away"][0].value
    assert away.served == found["writebehind_pending_documents"][0].value
    assert away.served == len(found["writebehind_partition_pending_documents"])
    assert "writebehind_writes_acknowledged" not in found
    assert away.is_home != ("writebehind_workers" in found)


def test_the_doctor_goes_on(away: Away):
    """It says which server is away, and judges the rest."""
    found = list(examine(away.pipeline))
    failures = {(one.check, one.found) for one in found if one.level is Level.FAILURE}
    said = next(said for check, said in failures if check == "redis servers")
    assert said.startswith(f"{away.name} does not answer")
    assert (away.how == "foreign") == ("what is at its address is no Redis: Protocol error" in said)
    assert {"redis version", "database", "partitions", "mongodb topology", "backlog", "totals"} <= {
        name for one in found for name in one.check.split(", ")
    }
    assert away.run("doctor").exit_code == 2


def test_dead_letters_of_the_others_are_listed(away: Away):
    """The page says whose are missing; an export has what there is, and ends with an error."""
    page = away.get("/admin/dead-letters").json
    assert (away.told, away.served, away.served) == (page["away"], page["total"], len(page["dead_letters"]))
    lines = away.get("/admin/dead-letters:export").text.splitlines()
    assert away.served + 1 == len(lines)
    assert "redis-unavailable" in json.loads(lines[-1])["type"]
    listed = away.run("dead-letters", "list", "--json")
    assert (0, away.served) == (listed.exit_code, len(listed.stdout.splitlines()))
    assert f"server {away.name} does not answer" in listed.stderr
    with pytest.raises(RedisUnavailableError, match=f"server {away.name} does not answer"):
        list(away.pipeline.dead_letters.all(Filter()))


def test_history_is_told(away: Away):
    """Of the past the first server knows; where it is not that one, points go on and say that they are partial."""
    told = away.get("/admin/history").json
    assert away.is_home == (told["time"] == [])
    recorder = away.pipeline.recorder()
    if away.is_home:
        with pytest.raises(RedisUnavailableError):
            recorder.step()
        return
    wait_until(recorder.step, "the other recorder's lease to end", 20)
    wait_until(recorder.step, "a second point", 20)
    told = away.get("/admin/history").json
    assert [len(away.lost)] * 2 == told["partitions_away"][-2:]
    assert (away.served, 0.0) == (told["pending"][-1], told["acknowledged_per_second"][-1])


def test_the_others_are_drained(away: Away):
    """What can be persisted is, at once; the rest is not waited for, and not said to be done."""
    if away.is_home:
        ended = away.run("drain", "--timeout", "1", "--json")
        assert (1, away.told) == (ended.exit_code, json.loads(ended.stdout)["away"])
    drained = drain(away.pipeline, timeout_s=60)
    assert (away.served, 0, away.told) == (drained.persisted, 0, list(drained.away))
    assert f"server {away.name} does not answer" in drained.reason
    ended = away.run("drain")
    assert (1, True) == (ended.exit_code, f"server {away.name} does not answer" in ended.stderr)


def test_nobody_waits_for_it_who_writes_elsewhere(away: Away, monkeypatch):
    """The figures of all servers are asked for by no request, as long as there are some that are not old."""
    monkeypatch.setattr("writebehind.redis.shared.load_sample.SAMPLE_EVERY_S", EVERY_S)
    users, sampler = away.pipeline.collection("users"), away.pipeline._sampler
    names = [name for at, name in names_in(away.pipeline, "p").items() if at not in away.lost]
    wait_until(lambda: sampler.look().away, "it to be known as away", 30)
    taken, longest_s, until = sampler._taken, 0.0, time.monotonic() + 10 * EVERY_S
    while time.monotonic() < until:
        for name in names:
            began = time.monotonic()
            users.put(name, {"n": 1})
            longest_s = max(longest_s, time.monotonic() - began)
    assert longest_s < TIMEOUT_MS / 1000
    assert sampler._taken > taken
