"""Figures of benchmarks for programs."""

from __future__ import annotations

import sys

import pytest

from bench.http import Contender, _told
from bench.rows import Row, command, measured, read, write


def test_rows_are_read_as_they_were_written(tmp_path):
    """But for digits that no benchmark can tell."""
    write([Row("http: PUT", "bare Flask, „floor“", "p99", "ms", 12.34567)], tmp_path / "rows.json")

    assert [Row("http: PUT", "bare Flask, „floor“", "p99", "ms", 12.35)] == read(tmp_path / "rows.json")


def test_no_rows_are_a_list(tmp_path):
    """Of nothing."""
    write([], tmp_path / "rows.json")

    assert [] == read(tmp_path / "rows.json")


def test_a_row_names_its_benchmark():
    """So that tables of the same title are told apart; a benchmark without rows has none."""
    assert [Row("peers: PUT", "it", "p50", "ms", 1.0)] == measured(
        "peers", lambda: [Row("PUT", "it", "p50", "ms", 1.0)]
    )
    assert [] == measured("aio", lambda: None)


@pytest.mark.parametrize("told", [True, False])
def test_a_file_is_written_where_one_is_named(monkeypatch, tmp_path, told):
    """And none elsewhere."""
    file = tmp_path / "rows.json"
    monkeypatch.setattr(sys, "argv", ["bench", *(["--json", str(file)] if told else [])])

    command("peers", lambda: [Row("PUT", "it", "p50", "ms", 1.0)], "")

    assert told == file.exists()


def test_a_table_is_of_medians_and_ratios_are_of_rounds(capsys):
    """A round in which the machine was slow is held against the floor of this round."""
    floor = Contender("floor", 0, None, 1.5, [100, 10, 120], [10, 100, 12], [1, 2, 3], [4, 5, 6])
    one = Contender("one", 0, None, 1.5, [50, 5, 40], [20, 200, 36], [2, 4, 6], [8, 10, 12])

    rows = list(_told(one, floor, "PUT"))

    assert [40, 0.5, 36, 0.5, 4, 10] == [row.value for row in rows]
    assert {("PUT", "one")} == {(row.benchmark, row.contender) for row in rows}
    assert ["one", "40", "0.50", "36", "0.50", "4.00", "10.00"] == capsys.readouterr().out.split()
