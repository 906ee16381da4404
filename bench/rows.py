"""Figures of benchmarks as rows, for programs: `--json FILE` writes them, and charts are made of them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple


class Row(NamedTuple):
    """One figure: of which benchmark, and of whom in it."""

    benchmark: str
    contender: str
    figure: str
    unit: str
    value: float


#: A benchmark prints its tables, and may return what stands in them.
Benchmark = Callable[[], Iterable[Row] | None]


def parser(description: str) -> argparse.ArgumentParser:
    """The options of each benchmark that has rows."""
    parsing = argparse.ArgumentParser(description=description)
    parsing.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, as a list of rows")
    return parsing


def measured(name: str, benchmark: Benchmark) -> list[Row]:
    """Run a benchmark; its rows bear its name before that of the table."""
    return [row._replace(benchmark=f"{name}: {row.benchmark}") for row in benchmark() or ()]


def command(name: str, benchmark: Benchmark, description: str) -> None:
    """Run one benchmark from the command line."""
    file = parser(description).parse_args().json
    rows = measured(name, benchmark)
    if file:
        write(rows, file)


def write(rows: Iterable[Row], file: Path) -> None:
    """Write them as a JSON list of objects, one a line."""
    lines = (json.dumps(row._replace(value=float(f"{row.value:.4g}"))._asdict()) for row in rows)
    file.write_text("[\n" + ",\n".join(lines) + "\n]\n", "utf-8")


def read(file: Path) -> list[Row]:
    """Rows that `write` has written."""
    return [Row(**each) for each in json.loads(file.read_text("utf-8"))]
