"""Dead letters that wait for each other: MongoDB takes one of them."""

from __future__ import annotations

import pytest

from tests.integration.conftest import flush_all
from tests.integration.contention.conftest import flush, letters, replays_of, spread, usernames
from writebehind.flushing.dead_letters import Filter

#: Documents that are given two values each, of which another one has the first and a third the second: in MongoDB
#: before, as acknowledged last, and how many of them MongoDB takes.
ENTANGLED = {
    "two": ([("y", 1), ("x", 2)], [("x", 1), ("x", 1)], 1),
    "three": ([("x", 1), ("y", 2), ("z", 3)], [("y", 1), ("z", 2), ("x", 3)], 3),
    "three, of which each keeps": ([("x", 1), ("y", 2), ("z", 3)], [("x", 2), ("y", 3), ("z", 1)], 3),
    "three for one": ([("x", 1), ("y", 2), ("z", 3)], [("y", 1), ("y", 1), ("y", 1)], 1),
}


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("which", ENTANGLED)
def test_documents_that_are_in_each_others_way(pipeline, users, stored, monkeypatch, which, order):
    """By values that they keep: MongoDB takes one of those that conflict, and none is replayed without end."""
    before, after, taken = ENTANGLED[which]
    names = spread(pipeline, len(before))
    replays = replays_of(pipeline, monkeypatch)
    for values in (before, after):
        for name, (username, number) in zip(names, values, strict=True):
            users.put(name, {"username": username, "number": number, "n": values is after})
        for name in names[::order]:
            flush(pipeline, name)
    flush_all(pipeline)
    pipeline.maintenance.sweep()
    flush_all(pipeline)

    wanted = dict(zip(names, after, strict=True))
    new = {one["_id"]: (one["username"], one["number"]) for one in stored.find({"n": True})}
    assert (taken, len(names) - taken) == (len(new), letters(pipeline))
    assert new == {name: wanted[name] for name in new}
    assert len(replays) <= len(names)


def test_who_gives_up_what_others_were_refused_for(pipeline, users, stored):
    """Of two documents that share two values the second comes to MongoDB when it shares none any more."""
    one, other = spread(pipeline, 2)
    users.put(one, {"username": "y", "number": 1})
    users.put(other, {"username": "x", "number": 2})
    flush_all(pipeline)
    for name in (one, other):
        users.put(name, {"username": "x", "number": 1})
        flush_all(pipeline)
    assert 1 == letters(pipeline)
    [dead] = [one.letter.id.text for one in pipeline.dead_letters.page(Filter()).letters]
    winner = one if dead == other else other

    for number, username in ((1, "new"), (5, "new")):
        users.put(winner, {"username": username, "number": number})
        flush_all(pipeline)
        flush_all(pipeline)

    assert ({winner: "new", dead: "x"}, 0) == (usernames(stored), letters(pipeline))


def test_two_flushers_that_bury_each_others_documents(pipeline, users, stored, monkeypatch):
    """Each has seen the other one pending: after that the last look lets one pass."""
    one, other = spread(pipeline, 2)
    users.put(one, {"username": "y", "number": 1})
    users.put(other, {"username": "x", "number": 2})
    flush_all(pipeline)
    users.put(one, {"username": "x", "number": 1})
    users.put(other, {"username": "x", "number": 1})
    replays = replays_of(pipeline, monkeypatch)
    refuse = pipeline.flusher._batches._recorder._refuse

    def late(outcome, summary):
        if outcome.write.id.text == one and letters(pipeline) == 0:
            flush(pipeline, other)
        refuse(outcome, summary)

    monkeypatch.setattr(pipeline.flusher._batches._recorder, "_refuse", late)
    flush(pipeline, one)
    flush_all(pipeline)

    assert ["x"] == [value for value in usernames(stored).values() if value]
    assert 1 == letters(pipeline)
    assert 1 == len(replays)


def test_a_dead_letter_that_others_keep_out_goes_on_having_its_value(pipeline, users, stored):
    """Who wants a value of a document whose newer version is refused for a third one's sake does not get it."""
    one, third, wants = spread(pipeline, 3)
    users.put(one, {"username": "x", "number": 1})
    users.put(third, {"username": "z", "number": 3})
    flush_all(pipeline)
    users.put(one, {"username": "x", "number": 3})
    flush_all(pipeline)
    users.put(wants, {"username": "x"})
    flush_all(pipeline)
    pipeline.maintenance.sweep()

    assert ({one: "x", third: "z"}, 2) == (usernames(stored), letters(pipeline))
