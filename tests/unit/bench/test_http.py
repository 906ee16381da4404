"""Servers under load: what each round asks for, and what is noted of it."""

from __future__ import annotations

from subprocess import CompletedProcess
from types import SimpleNamespace

import pytest

import bench.http
from bench.http import Contender
from bench.load import FEW_IDS, IDS


@pytest.fixture
def contender(monkeypatch):
    """One whose server takes 0.5 s of CPU for 1,000 answers in 2 s, by turns."""
    times = iter(n / 2 for n in range(100))
    process = SimpleNamespace(children=lambda **_: [], cpu_times=lambda: (next(times), 0.0))
    one = Contender("one", 4711, process)
    one.asked = []

    def run(command: list[str], **_: object) -> CompletedProcess[str]:
        one.asked.append(command[3:])
        return CompletedProcess(command, 0, "1000 2.0 3.5 9.5\n")

    monkeypatch.setattr(bench.http.subprocess, "run", run)
    return one


def test_a_round_is_noted(contender):
    """Its rate, the CPU time of a request and two percentiles, until it is forgotten."""
    contender.measure("GET")
    noted = (contender.rates, contender.microseconds, contender.p50s_ms, contender.p99s_ms)

    assert ([500.0], [500.0], [3.5], [9.5]) == noted
    contender.forget()
    assert ([], [], [], []) == noted


def test_the_first_puts_of_a_size_write_each_document(contender):
    """So that each can be read; later rounds last as long as was said, however slow the server is."""
    for method, more in (("PUT", 0), ("PUT", 0), ("PUT", 4_096), ("PUT", 4_096), ("GET", 0)):
        contender.measure(method, more)

    assert [IDS, 1, FEW_IDS, 1, 1] == [int(words[-1]) for words in contender.asked]
