"""`make mutants`: mistakes are put into the code, one at a time, and a test should notice each."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue

import click
from rich.console import Console
from rich.progress import track

from tests.mutants.running import Fate, Trial, try_out, unsound
from tests.mutants.source import Mutant, listed, sampled


@click.command()
@click.option("--only", default="", help="Of files with this in their path.")
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
    only: str, sample: int, breaks: bool, seed: int, minutes: float, jobs: int, report: Path, as_json: bool
) -> None:
    """Put mistakes into the code, and see whether tests notice. Exits with 1 where one survives unexplained."""
    until = time.monotonic() + minutes * 60
    progress = Console(stderr=True)
    mutants = (listed(only) if breaks else []) + sampled(sample, seed, only)
    if not mutants:
        raise click.UsageError("there are no mutants of such files")
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
        trials: list[Trial] = []
        counts = _counts(trials, len(mutants))
        runs = _try_all(mutants, Path(directory), jobs, until)
        for trial in track(runs, "trying mutants", total=len(mutants), console=progress):
            trials.append(trial)
            counts = _counts(trials, len(mutants)) | {"seed": seed, "sample": sample}
            report.write_text(json.dumps(counts | {"trials": [_shown(one) for one in trials]}, indent=1), "utf-8")
            if trial.fate is Fate.SURVIVED and not trial.mutant.harmless:
                one = trial.mutant
                progress.print(f"[bold red]survived[/] {one.file}: {one.why}", highlight=False)
                progress.print(f"- {one.old}\n+ {one.new}", markup=False, highlight=False)
    for test in unsound():
        progress.print(f"[yellow]does not count, as it fails without a mutant as well[/]: {test}", highlight=False)
    click.echo(json.dumps(counts) if as_json else "\n".join(f"{name:<12} {n}" for name, n in counts.items()))
    sys.exit(1 if counts["survived"] else 0)


def _try_all(mutants: Sequence[Mutant], directory: Path, jobs: int, until: float) -> Iterator[Trial]:
    """Try mutants, `jobs` at a time, as they become ready; those that time has no room for are left out."""
    places: SimpleQueue[Path] = SimpleQueue()
    for number in range(jobs):
        place = directory / str(number)
        place.mkdir()
        places.put(place)

    def one_of(mutant: Mutant) -> Trial | None:
        if time.monotonic() > until:
            return None
        place = places.get()
        try:
            return try_out(mutant, place)
        finally:
            places.put(place)

    with ThreadPoolExecutor(jobs) as pool:
        for ready in as_completed([pool.submit(one_of, mutant) for mutant in mutants]):
            if (trial := ready.result()) is not None:
                yield trial


def _counts(trials: Sequence[Trial], made: int) -> dict[str, int]:
    fates = Counter(one.fate for one in trials)
    explained = sum(one.fate is Fate.SURVIVED and bool(one.mutant.harmless) for one in trials)
    return {
        "tried": len(trials),
        "killed": fates[Fate.KILLED] + fates[Fate.TIMEOUT],
        "explained": explained,
        "survived": fates[Fate.SURVIVED] - explained,
        "left_out": made - len(trials),
    }


def _shown(trial: Trial) -> dict:
    mutant = asdict(trial.mutant)
    del mutant["source"], mutant["tests"]
    return mutant | {"fate": trial.fate.value, "words": trial.words}


if __name__ == "__main__":
    main()
