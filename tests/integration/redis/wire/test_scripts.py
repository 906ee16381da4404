"""Steps and what goes with them, also where the server has forgotten its scripts."""

from __future__ import annotations

import pytest

from writebehind.errors import MistypedKeyError, RedisUnavailableError
from writebehind.redis.keys import partition_keys
from writebehind.redis.scripts import script


def test_a_command_after_steps_is_on_their_connection(wire):
    """A command that follows steps is answered after them, also when the server had forgotten the script."""
    step = script("get_or_lease_entry")
    wire.call("FLUSHALL")
    wire.call("SCRIPT", "FLUSH")
    for expected in ([b"load"], [b"wait"]):
        answers, count = wire.run_each(
            step, [(("entry", "load", "deleted"), ("token", 5_000, "users/s:a"))], lambda _: [("DBSIZE",)]
        )
        assert ([expected], [("", 1)]) == (answers, count)


def test_scripts_that_the_server_forgot(wire):
    """A server that has lost its scripts gets them again, in single calls and in many."""
    step = script("get_or_lease_entry")
    calls = [((f"entry{n}", f"load{n}", "deleted"), ("token", 5_000, "users/s:a")) for n in range(3)]
    wire.call("FLUSHALL")
    assert [[b"load"]] * 3 == wire.run_many(step, calls)
    wire.call("SCRIPT", "FLUSH")

    assert wire.run(step, *calls[0]) == [b"wait"]
    wire.call("SCRIPT", "FLUSH")
    assert [[b"wait"]] * 3 == wire.run_many(step, calls)


def test_a_script_that_another_process_loads_in_between(wire, monkeypatch):
    """No step is carried out after a later one of its key, which was known already; the others all are."""
    step, exchange = script("claim_value"), wire.exchange
    keys = ["one", "other", "one", "two", "one", "two"]
    wire.call("FLUSHALL")
    wire.call("SCRIPT", "FLUSH")

    def with_another(commands):
        monkeypatch.undo()
        first, later = commands[:3], commands[3:]
        *answers, _ = exchange([*first, ("SCRIPT", "LOAD", step.source)])
        return [*answers, *exchange(later)]

    monkeypatch.setattr(wire, "exchange", with_another)
    answers, _ = wire.run_each(step, [((one,), (f"{turn}", turn)) for turn, one in enumerate(keys)])

    assert [0, 2] == [at for at, answer in enumerate(answers) if isinstance(answer, RedisUnavailableError)]
    assert [["4"], ["1"], ["3", "5"]] == [
        [one.decode() for one in wire.call("ZRANGE", key, 0, -1)] for key in ("one", "other", "two")
    ]


def test_a_look_of_which_the_server_forgot_the_script(wire, monkeypatch):
    """What comes after the steps is answered after them then too."""
    of = partition_keys(0)
    wire.call("FLUSHALL")
    wire.call("SCRIPT", "FLUSH")
    load = wire._load

    def changes(*of_step: object) -> None:
        wire.call("SET", "key", "new")
        wire.call("ZADD", of.pending, 1, "m")
        load(*of_step)

    monkeypatch.setattr(wire, "_load", changes)  # what happens while the script is on its way
    found = wire.look_before(script("find_unsettled"), [((of.pending, of.dead), ("m",))], [("GET", "key")])

    assert ([[b"1", None]], [b"new"]) == found


def test_each_step_stands_for_itself(wire):
    """One that meets something of another type is answered by an error, and the others are carried out."""
    of = partition_keys(0)
    calls = [
        ((of.entry(one), of.load(one), of.deleted), ("token", 5_000, one)) for one in ("users/s:a", "users/s:b")
    ]
    wire.call("FLUSHALL")
    wire.call("RPUSH", of.entry("users/s:a"), "garbage")

    (refused, leased), _ = wire.run_each(script("get_or_lease_entry"), calls)

    assert (MistypedKeyError, [b"load"]) == (type(refused), leased)
    assert [[b"load"], [b"wait"]] == wire.run_each(script("get_or_lease_entry"), calls)[0]


def test_a_step_whose_server_is_away_is_told_before_commands(wire, monkeypatch):
    """The answers of other servers, which were in the same round trip, do not stand for it."""
    monkeypatch.setattr(wire, "exchange", lambda _: [RedisUnavailableError("one server is away"), b"PONG"])
    with pytest.raises(RedisUnavailableError, match="one server is away"):
        wire.run_before(script("count_flushed"), (("wb:one",), ()), (("PING",),))
