"""Progress and findings of the demo, for people."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from writebehind.demo.comparison import Mismatch

LOG_EVERY_S = 2.0


@dataclass(slots=True)
class Result:
    """Findings of the demo."""

    seed: int
    documents: int
    acknowledged_writes: int
    mongodb_operations: int
    ratio: float
    oldest_pending_seconds: float
    mismatches: int
    dead_letters: int
    pending: int
    reads_checked: int
    retries: int
    conflicts: int
    sending_seconds: float
    duration_seconds: float
    first_mismatches: list[Mismatch]

    @property
    def good(self) -> bool:
        """Whether MongoDB has exactly what was acknowledged."""
        return not (self.mismatches or self.dead_letters or self.pending)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {"good": self.good} | asdict(self)


class Report:
    """Shows how far the demo is: a bar on a terminal, else a line now and then."""

    def __init__(self, console: Console) -> None:
        """Write to this console."""
        self._console = console
        self._began = time.monotonic()

    def say(self, line: str) -> None:
        """Write a line."""
        self._console.print(f"{time.monotonic() - self._began:5.1f} s  {line}", markup=False, soft_wrap=True)

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """Give a function that takes how much is done."""
        if not self._console.is_terminal:
            yield self._lines(what, total)
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.update(task, completed=done)

    def _lines(self, what: str, total: int) -> Callable[[int], None]:
        began = latest = time.monotonic()

        def show(done: int) -> None:
            nonlocal latest
            if (now := time.monotonic()) - latest >= LOG_EVERY_S:
                latest = now
                left = f", about {(now - began) * (total - done) / done:.0f} s left" if done else ""
                self.say(f"{what}: {done} of {total}{left}")

        return show


def show(result: Result, stream: TextIO) -> None:
    """Print the result for people, with the first mismatches."""
    console = Console(file=stream, highlight=False)
    console.print(table(result))
    for line in mismatch_lines(result):
        console.print(line, markup=False, soft_wrap=True)
    console.print(conclusion(result), style="" if result.good else "bold red", soft_wrap=True)


def table(result: Result) -> Table:
    """The figures."""
    rows = {
        "documents": f"{result.documents:,}",
        "acknowledged writes": f"{result.acknowledged_writes:,}",
        "MongoDB operations": f"{result.mongodb_operations:,}",
        "ratio": f"{result.ratio:.2f} writes per operation",
        "oldest pending seen": f"{result.oldest_pending_seconds:.2f} s",
        "mismatches": f"{result.mismatches:,}",
        "dead letters": f"{result.dead_letters:,}",
        "still pending": f"{result.pending:,}",
        "reads checked": f"{result.reads_checked:,}",
        "retries, conflicts": f"{result.retries:,}, {result.conflicts:,}",
        "duration": f"{result.duration_seconds:.1f} s, of which sending {result.sending_seconds:.1f} s",
        "seed": f"{result.seed}",
    }
    shown = Table(show_header=False)
    for name, value in rows.items():
        shown.add_row(name, value, style="bold red" if name == "mismatches" and result.mismatches else "")
    return shown


def conclusion(result: Result) -> str:
    """The result in one sentence."""
    if result.good:
        return f"All is well: MongoDB has each of {result.documents:,} documents as it was last acknowledged."
    return "NOT WELL: MongoDB has not all that was acknowledged, or not so: see the figures above."


def mismatch_lines(result: Result) -> Iterator[str]:
    """The first mismatches."""
    for one in result.first_mismatches:
        yield f"MISMATCH {one.collection}/{one.id}\n  expected {one.expected}\n  found    {one.found}"
    if result.mismatches > len(result.first_mismatches):
        yield f"… and {result.mismatches - len(result.first_mismatches)} more"
