"""Addresses of several servers, and the server that each command goes to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import count
from string import ascii_letters

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from writebehind import load_settings
from writebehind.redis import keys
from writebehind.redis.connections import Command
from writebehind.redis.keys import View, partition_keys
from writebehind.redis.scripts import digest, steps
from writebehind.redis.topology.addresses import ManyServers, many_servers, named_servers
from writebehind.redis.topology.arriving import let_arrive, resignations
from writebehind.redis.topology.cluster import _slot
from writebehind.redis.topology.confirming import SOON_MS
from writebehind.redis.topology.dividing import _routed, _undivided
from writebehind.redis.topology.guard import guarded
from writebehind.redis.topology.record import (
    Assignment,
    Left,
    ServerRecord,
    fair,
    left_over,
    misfit,
    places,
    unclaimed,
)
from writebehind.redis.topology.rendezvous import owner
from writebehind.redis.topology.routing import in_order, key_of, tag
from writebehind.settings.urls import redacted

ADDRESSES = {
    "redis://h": None,
    "unix:///run/redis.sock": None,
    "redis+cluster://h": ManyServers("cluster", [("h", 6379)], "redis://server/0", "", {}),
    "redis+cluster://h:1,i/0": ManyServers("cluster", [("h", 1), ("i", 6379)], "redis://server/0", "", {}),
    "redis+cluster://[::1]:1,i": ManyServers("cluster", [("::1", 1), ("i", 6379)], "redis://server/0", "", {}),
    "rediss+cluster://u:p%2F@h?ssl_cert_reqs=none": ManyServers(
        "cluster", [("h", 6379)], "rediss://u:p%2F@server/0?ssl_cert_reqs=none", "", {}
    ),
    "redis+sentinel://h,i:3/main": ManyServers(
        "sentinel", [("h", 26379), ("i", 3)], "redis://server/0", "main", {}
    ),
    "rediss+sentinel://:p@h/main/2?sentinel_password=s%26&client_name=n": ManyServers(
        "sentinel", [("h", 26379)], "rediss://:p@server/2?client_name=n", "main", {"password": "s&"}
    ),
}


@pytest.mark.parametrize(("url", "address"), ADDRESSES.items())
def test_an_address_is_taken_apart(url, address):
    """Hosts, login, service, database and options are what the URL says, and the settings take it."""
    assert address == many_servers(load_settings(redis_url=url).redis_url)


@pytest.mark.parametrize("url", ["redis+cluster://u:geheim@h:1,i:2", "redis+sentinel://:geheim@h,i/main/0"])
def test_an_address_is_shown_without_its_password(url):
    """The hosts are shown, and the password is not."""
    assert ("geheim" not in redacted(url), True) == (True, "@h" in redacted(url))


@given(st.text(alphabet=ascii_letters + "{}:é", max_size=12))
def test_a_key_is_placed_as_a_cluster_places_it(key):
    """The slot of a key's tag is the slot that redis-py, and so a node, has the key in."""
    assert key_slot(key.encode()) == _slot(tag(key))


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("GET", "a"), "a"),
        (("MGET", "a", "b"), "a"),
        (("DEL", b"wb:{3}:entry:\xff", "b"), "wb:{3}:entry:\ufffd"),
        (("EVALSHA", "sha", 2, "a", "b", "c"), "a"),
        (("EVAL", "return 1", 2, "a", "b", "c"), "a"),
        (("ZADD", "a", 1, "b"), "a"),
    ],
)
def test_the_first_key_decides(command, key):
    """The key of a command, or of a step."""
    assert key == key_of(command)


@pytest.mark.parametrize(
    "command", [("TIME",), ("INFO",), ("SCRIPT", "LOAD", "x"), ("EVALSHA", "sha", 0, "x"), ("EVAL", "", 0)]
)
def test_a_command_without_key_is_for_a_server(command):
    """What has no key is never sent to whichever server comes first."""
    with pytest.raises(ValueError, match="has no key"):
        key_of(command)


def test_what_one_step_touches_is_in_one_slot():
    """The keys of a partition, and those that a lease guards, are where the others are."""
    together = (
        [getattr(partition_keys(7), name) for name in ("pending", "clock", "dead", "counts")],
        [keys.RECONCILE, keys.RECONCILE_LEASE, keys.DRIFT, keys.DRIFT_FREE],
        [keys.LISTENER, keys.LISTENER_LEASE],
        [keys.consistency(3), keys.INCONSISTENT],
        [keys.HISTORY, keys.HISTORY_COARSE, keys.HISTORY_LEASE],
        list(keys.changes("users")),
    )
    assert [1] * len(together) == [len({_slot(tag(one)) for one in some}) for some in together]


def test_a_list_of_servers_is_taken_apart():
    """Names, URLs and their order are what the list says, and the settings take it."""
    url = "b=redis://u:p%3B@h:1/2;a-2=redis+sentinel://h,i/main/0;C_=unix:///run/redis.sock"
    servers = named_servers(load_settings(redis_url=url).redis_url)
    assert [
        ("b", "redis://u:p%3B@h:1/2"),
        ("a-2", "redis+sentinel://h,i/main/0"),
        ("C_", "unix:///run/redis.sock"),
    ] == list(servers.items())
    assert named_servers("redis://h?client_name=a") is None


NAMES = st.lists(st.text(alphabet=ascii_letters, min_size=1, max_size=5), min_size=1, max_size=6, unique=True)


@given(NAMES, st.text(alphabet=ascii_letters, min_size=6, max_size=6))
def test_a_server_that_comes_takes_only_what_it_then_has(names, new):
    """No partition moves between the others, whichever order they are named in."""
    for place in map(str, range(64)):
        assert owner(place, [*reversed(names), new]) in {owner(place, names), new}


def test_the_assignment_stays_what_it_is():
    """Installations have it recorded: another hash would move everything."""
    assert "ccbbbbaacaccbaba" == "".join(owner(str(place), "abc") for place in range(16))


def test_what_belongs_to_no_partition_is_on_the_first_server():
    """Its place is said by the order, and not by a hash."""
    assert ["c", "a"] == [fair("home", names) for names in (["c", "a", "b"], ["a", "b", "c"])]


def test_of_two_servers_that_claim_a_partition_the_last_is_right():
    """One that was brought back from a copy of before a move says still that it has the partition."""
    records = {
        "a": ServerRecord("a", ("a", "b"), b"1", {"0": 0, "1": 0, "home": 0}),
        "b": ServerRecord("b", ("a", "b"), b"2", {"1": 1}, {"2": Left.of("a", 1, "mark")}),
    }
    assignment = Assignment.of(["a", "b"], records)
    assert {"2": ("b", Left.parse("a/1/mark"))} == assignment.gone
    assert ["a", "b", "a", "a"] == [assignment.server_of(place) for place in ("0", "1", "2", "home")]
    assert "" == misfit(["b", "a"], records)


@pytest.mark.parametrize(("moves", "expected"), [(3, "c"), (2, "b"), (1, "b")])
def test_what_has_left_is_on_its_way_until_somebody_has_it_since(moves, expected):
    """Not on a server that failed over to a replica which does not know that it left before."""
    records = {
        "a": ServerRecord("a", ("a", "b", "c"), b"1", {"1": 0}),
        "b": ServerRecord(
            "b", ("a", "b", "c"), b"2", {"1": 2} if moves < 3 else {}, {"1": Left.of("c", moves, "m")}
        ),
    }
    assignment = Assignment.of(["a", "b", "c"], records)
    assert expected == assignment.server_of("1")
    assert ("1" in assignment.gone) == ("1" not in assignment.claims) == (moves == 3)


def test_what_is_lost_is_recorded_where_no_copies_of_it_are():
    """Those are older, and would be taken for it; it has moved more often than they know."""
    b, c = (ServerRecord(name, ("a", "b", "c"), b"1") for name in "bc")
    goes = owner("1", "abc")
    records = {"a": ServerRecord("a", ("a", "b", "c"), b"1"), "b": b, "c": c}
    records[goes] = ServerRecord(goes, ("a", "b", "c"), b"1", {}, {"1": Left.of("b", 3, "m").over()})
    assignment = Assignment.of(["a", "b", "c"], records)
    others = [name for name in "abc" if name != goes]

    assert {} == assignment.gone
    assert owner("1", others) == assignment.server_of("1")
    assert {owner("1", others): {"1": 4}} == {
        name: {"1": of["1"]} for name, of in unclaimed(assignment, 2).items() if "1" in of
    }
    assert f"server {goes} has copies of 1 partition that moved to other servers" == left_over(assignment)


def test_who_lets_go_of_what_is_just_leaving_another_server_has_no_mark_of_it():
    """The mark is of that one: it arrives, or comes back, from there only."""
    records = {
        "a": ServerRecord("a", ("a", "b", "c"), b"1", {"1": 0}),
        "b": ServerRecord("b", ("a", "b", "c"), b"2", {}, {"1": Left.of("c", 2, "mark")}),
        "c": ServerRecord("c", ("a", "b", "c"), b"3"),
    }
    (step,) = resignations("a", records).values()
    assert ("1", 2, "c/2/over") == step[-3:]


class Replicated:
    """A server with one replica, which answers 1 to each step."""

    name = "a"

    def __init__(self) -> None:
        self.sent: list[Command] = []

    def exchange(self, commands: Sequence[Command]) -> list[object]:
        self.sent += commands
        return [b"connected_slaves:1" if one[0] == "INFO" else 1 for one in commands]


@pytest.mark.parametrize(("least", "arrives"), [(0, True), (1, True), (2, False)])
def test_what_has_left_arrives_once_as_many_replicas_know_as_its_mover_asks_for(least, arrives):
    """All that goes to one server waits for them together."""
    source, target = Replicated(), Replicated()
    left = {place: Left.of("b", 1, f"mark+{least}@term") for place in ("1", "2")}
    let_arrive(source, target, left)
    assert [("WAIT", max(least, 1), SOON_MS)] == [one for one in source.sent if one[0] == "WAIT"]
    assert ["1", "2"] * arrives == [one[7] for one in target.sent]


def test_each_step_is_sent_with_the_guard():
    """Under another name than without, after the line with its flags; loading it brings that text."""
    for step in steps():
        name = guarded(("EVALSHA", step.sha1, 1, "wb:{3}:pending"))[1]
        source = guarded(("SCRIPT", "LOAD", step.source))[2]
        assert name != step.sha1
        assert name == digest(source)
        first, flags = source.partition("\n")[0], step.source.partition("\n")[0]
        assert (first == flags) == flags.startswith("#!lua")
        assert "#!" not in source[2:]


@pytest.mark.parametrize("command", [("GET", "wb:{3}:clock"), ("TIME",), ("HGETALL", keys.SERVER)])
def test_a_read_is_sent_as_it_is(command):
    """What changes nothing need not be refused."""
    assert command == guarded(command)


def test_a_command_that_changes_something_becomes_a_step():
    """So that its server may refuse it."""
    name, source, *others = guarded(("DEL", "wb:{3}:clock", "wb:{3}:sent"))
    assert ("EVAL", [1, "wb:{3}:clock", "DEL", "wb:{3}:clock", "wb:{3}:sent"]) == (name, others)
    assert "is not here" in source


def test_places_of_an_installation():
    """Each partition is one, and all the rest is one more."""
    assert ["home", "0", "1", "2"] == places(3)


def test_what_reads_after_a_refused_step_reads_again():
    """It would be older than the step; a step that a later one of its key has overtaken is given up."""
    step, other = ("EVALSHA", "sha", 1, "wb:{1}:a"), ("EVALSHA", "sha", 1, "wb:{1}:b")
    read = ("GET", "wb:{1}:a")
    assert [1, 2] == in_order([read, step, read, other], answers := [b"", None, b"", 1], [1])
    assert [b"", None, b"", 1] == answers
    assert [1] == in_order([step, read, step], answers := [None, b"", 1], [0])
    assert "has overtaken" in str(answers[0])
    assert [] == in_order([step], [None], [])


def test_a_command_goes_where_its_name_belongs_by_now():
    """Its keys were made when less was divided; what has no name in its keys, or several, belongs nowhere."""
    first, now = View(4, 16), View(4, 16, frozenset(range(4)))
    routed = partial(_routed, first=first, view=now, is_new=False)
    name = next(one for one in map(str, count()) if View(4).number(one) == 1 != View(16).number(one))
    home = View(16).number(name)
    step = ("EVALSHA", "sha", 2, f"wb:{{1}}:entry:{name}", "wb:{1}:pending", name, "wb:{1}:no key")
    moved = (*step[:3], f"wb:{{{home}}}:entry:{name}", f"wb:{{{home}}}:pending", *step[5:])
    assert moved == routed(step) == _routed(step, now, now, is_new=True)
    nameless = ("EVALSHA", "sha", 1, "wb:{1}:pending")
    assert routed(nameless) is None
    assert nameless == _routed(nameless, first, now, is_new=True)
    others = ("EVALSHA", "sha", 2, f"wb:{{1}}:entry:{name}", "wb:{1}:entry:another", name)
    assert routed(others) is None
    elsewhere = ("GET", f"wb:{{2}}:entry:{name}")
    assert elsewhere == routed(elsewhere)
    assert (1, None) == (_undivided(step, first), _undivided(step, now))
