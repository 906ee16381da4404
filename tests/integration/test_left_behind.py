"""What a clock that stepped back leaves behind: nobody waits longer than the right of another could have lived."""

from __future__ import annotations

import pytest

from writebehind.redis.scripts import script

LIFE_MS = 5_000
#: Atomic steps that find another one's right: which of the keys it is, how many there are, and the arguments.
STEPS = {
    "claim": (1, 3, ("ours", LIFE_MS, 10, "", "", 0, 60_000)),
    "take_lease": (1, 1, ("ours", LIFE_MS, "1", "")),
    "get_or_lease_entry": (2, 2, ("ours", LIFE_MS)),
    "get_or_lease_alias": (2, 3, ("ours", LIFE_MS, "")),
    "get_or_lease_result": (2, 2, ("ours", LIFE_MS, "")),
    "take_lead": (1, 2, ("ours", LIFE_MS, "")),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_right_that_lives_too_long_is_cut(valkey_wire, step):
    """Each such right has a life that is known: one that has more of it left was given before a step back."""
    number, count, arguments = STEPS[step]
    keys = tuple(f"{{k}}:{at}" for at in range(1, count + 1))
    held = keys[number - 1]
    valkey_wire.call("SET", held, "others", "PX", 1_000 * LIFE_MS)

    valkey_wire.run(script(step), keys, arguments)

    assert b"others" == valkey_wire.call("GET", held)
    assert 0 < valkey_wire.call("PTTL", held) <= LIFE_MS


@pytest.mark.parametrize("step", STEPS)
def test_a_right_in_its_time_is_left_alone(valkey_wire, step):
    """Whoever looks often does not make it live longer."""
    number, count, arguments = STEPS[step]
    keys = tuple(f"{{k}}:{at}" for at in range(1, count + 1))
    held = keys[number - 1]
    valkey_wire.call("SET", held, "others", "PX", LIFE_MS // 2)

    valkey_wire.run(script(step), keys, arguments)

    assert 0 < valkey_wire.call("PTTL", held) <= LIFE_MS // 2


@pytest.mark.parametrize(
    ("life", "dropped"),
    [(("PX", LIFE_MS - 1), 0), (("PX", 2 * LIFE_MS), 1), ((), 1)],
)
def test_only_a_token_that_lives_too_long_is_dropped(valkey_wire, life, dropped):
    """Reconciling has looked before: the right of a reader who is at work by now stays."""
    valkey_wire.call("SET", "{k}:load", "others", *life)

    assert dropped == valkey_wire.run(script("drop_token"), ("{k}:load",), (LIFE_MS,))
    assert 1 - dropped == valkey_wire.call("EXISTS", "{k}:load")


@pytest.mark.parametrize("held", ["{k}:lease", "{k}:scheduled"])
def test_the_sweep_cuts_what_keeps_a_partition_from_being_flushed(valkey_wire, held):
    """A lease, or the ticket of a task, that was given before a step back: nobody else would look at it."""
    valkey_wire.call("ZADD", "{k}:pending", 0, "users/s:ada")
    valkey_wire.call("SET", held, "9:others", "PX", 1_000 * LIFE_MS)

    count, ticket = valkey_wire.run(
        script("sweep"), ("{k}:lease", "{k}:scheduled", "{k}:pending"), (1_000, LIFE_MS, 60_000, LIFE_MS)
    )

    assert (1, b"") == (count, ticket)
    assert 0 < valkey_wire.call("PTTL", held) <= LIFE_MS
