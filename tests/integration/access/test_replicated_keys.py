"""What replicas of Redis have of a change of keys is told: a failover brings back what they lack."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from tests.integration.access.conftest import ask
from tests.integration.conftest import environment
from tests.servers import freeze, resume
from tests.topologies import Watched
from tests.waiting import wait_until
from web.app import create_app
from writebehind import Pipeline, connect
from writebehind.cli import cli
from writebehind.operations.api_keys import KeyOffice

pytestmark = pytest.mark.one_server("it has the replica that the test gives it")


@pytest.fixture
def servers(tmp_path) -> Iterator[tuple[Watched, Watched]]:
    """A primary, and a server that can be its replica."""
    with Watched(tmp_path / "primary") as primary, Watched(tmp_path / "replica") as replica:
        yield primary, replica


@pytest.fixture
def on_primary(settings, servers):
    return settings.model_copy(update={"redis_url": servers[0].url})


def follow(primary: Watched, replica: Watched) -> None:
    replica.ask("REPLICAOF", "127.0.0.1", primary.port)
    wait_until(lambda: b"master_link_status:up" in replica.ask("INFO", "replication"), "the replica", 30)


def part(primary: Watched, replica: Watched) -> None:
    replica.ask("REPLICAOF", "NO", "ONE")
    wait_until(lambda: b"connected_slaves:0" in primary.ask("INFO", "replication"), "its absence", 30)


def office_of(pipeline: Pipeline) -> KeyOffice:
    return KeyOffice(pipeline.store.api_keys, pipeline.keyring)


def told(caplog) -> list[str]:
    return [one.getMessage() for one in caplog.records if getattr(one, "event", "") == "key_unconfirmed"]


def test_a_change_says_whether_a_replica_has_it(on_primary, servers, caplog):
    """Where there is none, nobody is warned; where one is stopped, or was there and is away, each change tells."""
    primary, replica = servers
    with connect(on_primary) as pipeline:
        office = office_of(pipeline)
        assert office.create("alone", ["admin"]).replicated is None

        follow(primary, replica)
        assert (True, True, True) == (
            office.create("one", ["admin"]).replicated,
            office.rotate("one").replicated,
            office.revoke("one").replicated,
        )
        assert [] == told(caplog)

        freeze(replica)
        two = office.create("two", ["admin"])
        assert (False, False, False) == (
            two.replicated,
            office.rotate("two").replicated,
            office.revoke("two").replicated,
        )
        assert ["is made", "has another secret", "is revoked"] == [
            line.removeprefix(f"the key {two.key.id} ").partition(",")[0] for line in told(caplog)
        ]

        # The key is revoked already, and what the connection has written before is with the replica.
        resume(replica)
        wait_until(lambda: office.revoke(two.key.id).replicated, "the replica", 30)
        freeze(replica)
        assert office.revoke(two.key.id).replicated is False
        resume(replica)

        part(primary, replica)
        assert office.revoke(two.key.id).replicated is False


def test_a_failover_brings_back_what_was_said_to_be_unconfirmed(on_primary, servers):
    """It is as the warning says, and the second revocation holds."""
    primary, replica = servers
    with connect(on_primary) as pipeline:
        office = office_of(pipeline)
        token = office.create("one", ["users:read"]).token.text
        follow(primary, replica)
        part(primary, replica)
        assert office.revoke("one").replicated is False
    primary.stop()
    with connect(on_primary.model_copy(update={"redis_url": replica.url})) as pipeline:
        assert pipeline.keyring.find(token) is not None
        assert office_of(pipeline).revoke("one").replicated is not True
        assert pipeline.keyring.find(token) is None


def test_clients_and_operators_are_told(on_primary, servers, caplog):
    """The API answers it, and the command line prints it, for people and as JSON."""
    primary, replica = servers
    follow(primary, replica)
    with connect(on_primary) as pipeline:
        client = create_app(pipeline).test_client()
        root = ask(client, "POST", "/admin/keys", {"name": "root", "allow": ["admin"]}).json
        assert root["replicated"] is True
        for name in ("one", "two"):
            ask(client, "POST", "/admin/keys", {"name": name, "allow": ["admin"]}, root["token"])
        part(primary, replica)
        rotated = ask(client, "POST", "/admin/keys/one:rotate", None, root["token"]).json
        revoked = ask(client, "DELETE", "/admin/keys/one", None, root["token"]).json
        assert (False, False) == (rotated["replicated"], revoked["replicated"])

    def run(*arguments):
        return CliRunner().invoke(cli, ["keys", *arguments], env=environment(on_primary))

    caplog.clear()
    for done in (run("create", "three", "--allow", "admin"), run("rotate", "three"), run("revoke", "three")):
        assert done.exit_code == 0, done.output
    assert len(told(caplog)) == 3  # on standard error, where no test has taken the log
    assert "replicated: no" in done.stdout
    assert json.loads(run("revoke", "two", "--json").stdout)["replicated"] is False
