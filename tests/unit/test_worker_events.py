"""What the log says of workers that fall silent."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from writebehind.history.events import MOST_NAMED, SUCCEEDED_S, EventLog
from writebehind.redis.shared.workers import SUCCEEDED_FOR_S, Crew, SilentWorker


def crew(*silent: SilentWorker, **consumers: list[str]) -> Crew:
    alive = sorted({name for names in consumers.values() for name in names})
    return Crew(alive, [], consumers, [], list(silent))


def silent(name: str, *queues: str) -> SilentWorker:
    return SilentWorker(name, queues, 16.0)


def lines(caplog) -> list[tuple[int, str]]:
    return [(one.levelno, one.getMessage()) for one in caplog.records]


def told(caplog, now: Crew) -> list[tuple[int, str]]:
    log = EventLog()
    log.look_at_workers(crew())
    log.look_at_workers(now)
    return lines(caplog)


def test_the_only_one_that_flushes(caplog):
    """Nothing is persisted then, which is an error, whoever else works."""
    [(level, line)] = told(caplog, crew(silent("a@h", "flush", "refresh"), maintenance=["b@h"], refresh=["b@h"]))

    assert logging.ERROR == level
    assert "nobody else takes tasks of flush, so nothing is persisted" in line


def test_one_of_several(caplog):
    """Others do its work; of another queue than `flush` it says which one nobody consumes."""
    [(level, line)] = told(caplog, crew(silent("a@h", "flush"), flush=["b@h"]))
    assert (logging.WARNING, True) == (level, "others do its work" in line)

    caplog.clear()
    [(level, line)] = told(caplog, crew(silent("a@h", "maintenance"), flush=["b@h"]))
    assert (logging.WARNING, True) == (level, "nobody else takes tasks of maintenance:" in line)


def test_workers_of_a_system_that_is_started_anew(caplog, monkeypatch):
    """Those of before were killed, and their successors begin in a moment: nobody has to be told of that."""
    killed = replace(crew(), ended=[silent("a@h", "flush")])
    log = EventLog()
    log.look_at_workers(killed)
    log.look_at_workers(replace(killed, consumers={"flush": ["b@h"]}))
    log.look_at_workers(killed)  # and is known from then on
    assert [] == lines(caplog)

    log = EventLog()
    log.look_at_workers(killed)
    monkeypatch.setattr("writebehind.history.events.time.monotonic", lambda: time.time() + SUCCEEDED_S)
    log.look_at_workers(killed)  # nobody has come
    log.look_at_workers(killed)
    [(level, line)] = lines(caplog)
    assert (logging.ERROR, True) == (level, "a@h has ended without a word" in line)


def test_ended_workers_are_forgotten_sooner_where_others_do_their_work():
    """The status names them until then."""
    ended = replace(crew(), ended=[replace(silent("a@h", "flush"), seconds_ago=SUCCEEDED_FOR_S + 1)])
    assert ended.ended == ended.ended_lately
    assert [] == replace(ended, consumers={"flush": ["b@h"]}).ended_lately


def test_many_at_once(caplog):
    """A few are named, as other hands may have written any number of them into Redis."""
    found = told(caplog, crew(*(silent(f"evil{at}@h") for at in range(300)), flush=["b@h"]))

    assert MOST_NAMED + 1 == len(found)
    assert "295 more workers have done nothing for long: see writebehind doctor" == found[-1][1]
