"""`make mutants`: mistakes are put into the code, one at a time, and a test should notice each."""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from itertools import chain, groupby, islice
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

import click
from rich.console import Console
from rich.progress import track

from tests.mutants.baseline import Baseline, Kept, Known
from tests.mutants.running import Fate, Trial, look, swap, try_out
from tests.mutants.source import Mutant, listed, sampled
from tests.mutants.swapping import can_be_swapped

#: Mutants of one file that are swapped in one process.
SWAPPED = 8

T = TypeVar("T")
R = TypeVar("R")


@click.command()
@click.option(
    "--only", multiple=True, metavar="TEXT", help="Of files with this in their path, or with any of these."
)
@click.option("--sample", type=click.IntRange(0), default=40, show_default=True, help="So many of each module.")
@click.option("--breaks/--no-breaks", default=True, help="Whether to try the list of breaks.")
@click.option("--seed", type=int, default=1, show_default=True, help="Decides which of each module.")
@click.option("--minutes", type=click.FloatRange(0), default=60.0, show_default=True, help="Begin none after.")
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, show_default=True, help="At a time.")
@click.option(
    "--report", type=click.Path(dir_okay=False, path_type=Path), default="mutants.json", show_default=True
)
@click.option("--json", "as_json", is_flag=True, help="Print the counts, and nothing else, to standard output.")
def main(
    only: tuple[str, ...],
    sample: int,
    breaks: bool,
    seed: int,
    minutes: float,
    jobs: int,
    report: Path,
    as_json: bool,
) -> None:
    """Put mistakes into the code, and see whether tests notice. Exits with 1 where one survives unexplained."""
    until = time.monotonic() + minutes * 60
    progress = Console(stderr=True)
    mutants = (listed(*only) if breaks else []) + sampled(sample, seed, *only)
    if not mutants:
        raise click.UsageError("there are no mutants of such files")
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
        places = _places(Path(directory), jobs)
        modules = sorted({one.file for one in mutants if one.lines})
        files = sorted({test for one in mutants for test in one.tests})
        kept = Kept(report.with_suffix(".tests.json"), modules)
        baseline = _look(files, kept, lambda file, place: look(file, modules, place), places, progress)
        trials: list[Trial] = []
        counts = _counts(trials, len(mutants))
        runs = _try_all(mutants, baseline, places, until)
        for trial in track(runs, "trying mutants", total=len(mutants), console=progress):
            trials.append(trial)
            counts = _counts(trials, len(mutants)) | {"seed": seed, "sample": sample}
            report.write_text(json.dumps(counts | {"trials": [_shown(one) for one in trials]}, indent=1), "utf-8")
            _tell(trial, len(trials), len(mutants), progress)
    click.echo(json.dumps(counts) if as_json else "\n".join(f"{name:<12} {n}" for name, n in counts.items()))
    sys.exit(1 if counts["survived"] else 0)


def _look(
    files: Sequence[str],
    kept: Kept,
    run: Callable[[str, Path], list[Known]],
    places: SimpleQueue[Path],
    progress: Console,
) -> Baseline:
    """Run tests without a mutant, where they are not known; a line for each file, and each test that fails."""
    known = {file: tests for file in files if (tests := kept.get(file)) is not None}
    new = [file for file in files if file not in known]
    seen = _each(lambda file, place: (file, run(file, place)), new, places)
    for file, tests in track(seen, "looking at tests", total=len(new), console=progress):
        known[file] = tests
        kept.put(file, tests)
        progress.print(f"{len(tests):>4} tests of {file}", highlight=False)
    baseline = Baseline(chain.from_iterable(known.values()))
    for test in baseline.failed():
        progress.print(f"does not count, as it fails without a mutant: {test}", style="yellow", markup=False)
    return baseline


def _try_all(
    mutants: Sequence[Mutant], baseline: Baseline, places: SimpleQueue[Path], until: float
) -> Iterator[Trial]:
    """Those that can be swapped first; of these what hangs, or survives, then with all tests or the others."""
    can = {True: [], False: []}
    for one in mutants:
        can[can_be_swapped(one)].append(one)
    groups = [
        some
        for _, of_file in groupby(can[True], key=lambda one: one.file)
        for some in iter(lambda of_file=of_file: [*islice(of_file, SWAPPED)], [])
    ]
    left = [(one, False) for one in can[False]]
    for trials in _each(lambda some, place: swap(some, baseline, place), groups, places, until):
        for trial in trials:
            if trial.fate is Fate.KILLED or trial.is_explained:
                yield trial
            else:
                left.append((trial.mutant, trial.fate is Fate.SURVIVED))
    yield from _each(lambda one, place: try_out(one[0], baseline, place, swapped=one[1]), left, places, until)


def _tell(trial: Trial, number: int, of: int, progress: Console) -> None:
    """One line for each mutant; the mistake itself where nobody has noticed or explained it."""
    one = trial.mutant
    fate = "explained" if trial.is_explained else trial.fate.value
    progress.print(
        f"{number:>4}/{of} {fate:<9} {one.file}: {one.why}", markup=False, highlight=False, soft_wrap=True
    )
    if trial.fate is Fate.SURVIVED and not trial.is_explained:
        progress.print(
            f"- {one.old}\n+ {one.new}", style="bold red", markup=False, highlight=False, soft_wrap=True
        )


def _places(directory: Path, count: int) -> SimpleQueue[Path]:
    places: SimpleQueue[Path] = SimpleQueue()
    for number in range(count):
        place = directory / str(number)
        place.mkdir()
        places.put(place)
    return places


def _each(
    run: Callable[[T, Path], R], what: Sequence[T], places: SimpleQueue[Path], until: float = math.inf
) -> Iterator[R]:
    """What comes of each, as it is ready, as many at a time as there are places; after `until` none is begun."""

    def one_of(one: T) -> R | None:
        if time.monotonic() > until:
            return None
        place = places.get()
        try:
            return run(one, place)
        finally:
            places.put(place)

    with ThreadPoolExecutor(places.qsize()) as pool:
        try:
            for ready in as_completed([pool.submit(one_of, one) for one in what]):
                if (result := ready.result()) is not None:
                    yield result
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # where one has failed, none of the others begins


def _counts(trials: Sequence[Trial], made: int) -> dict[str, int]:
    fates = Counter(one.fate for one in trials)
    explained = sum(one.is_explained for one in trials)
    return {
        "tried": len(trials),
        "killed": fates[Fate.KILLED] + fates[Fate.TIMEOUT],
        "explained": explained,
        "survived": fates[Fate.SURVIVED] - explained,
        "left_out": made - len(trials),
    }


def _shown(trial: Trial) -> dict:
    mutant = asdict(trial.mutant)
    del mutant["source"], mutant["tests"], mutant["lines"]
    return mutant | {"fate": trial.fate.value, "words": trial.words}


if __name__ == "__main__":
    main()
