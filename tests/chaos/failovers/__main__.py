"""`make failovers`: many failovers, seed after seed, and a report that is written as they happen."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import click

from tests.chaos.failovers.run import BROKER, BROKERS, ROOT, Report, run, system
from tests.chaos.failovers.topologies import FAULTS, TOPOLOGIES


@click.command()
@click.option(
    "--topology", "names", type=click.Choice(list(TOPOLOGIES)), multiple=True, help="Which; all without it."
)
@click.option(
    "--broker",
    type=click.Choice(list(BROKERS)),
    default=BROKER,
    show_default=True,
    help="Which is Celery's; RabbitMQ is the default where `make rabbitmq` has fetched it.",
)
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True, help="How many, of each topology.")
@click.option("--seed", type=int, default=1, show_default=True, help="The first; it decides which, when and how.")
@click.option("--failovers", type=click.IntRange(1), default=20, show_default=True, help="How many, of each seed.")
@click.option("--fault", "faults", type=click.Choice(FAULTS), multiple=True, help="Which; all without it.")
@click.option("--minutes", type=click.FloatRange(0), default=math.inf, help="Begin no failover after.")
@click.option(
    "--resume", is_flag=True, help="Keep the seeds that the report has of this commit, and run the others."
)
@click.option(
    "--report", type=click.Path(dir_okay=False, path_type=Path), default="failovers.json", show_default=True
)
@click.option("--json", "as_json", is_flag=True, help="Print the report, and nothing else, to standard output.")
def main(
    names: tuple[str, ...],
    broker: str,
    seeds: int,
    seed: int,
    failovers: int,
    faults: tuple[str, ...],
    minutes: float,
    resume: bool,
    report: Path,
    as_json: bool,
) -> None:
    """Let primaries of Redis be replaced, and see whether what was promised is kept. Exits with 1 if it is not.

    Each seed has a system of its own, so that one alone repeats it.
    """
    until = time.monotonic() + minutes * 60
    asked = {"commit": _commit(), "broker": broker, "faults_asked": list(faults or FAULTS), "asked": failovers}
    reports = list(_had(report, asked)) if resume else []
    for number, name in product(range(seed, seed + seeds), names or tuple(TOPOLOGIES)):
        if any((one["topology"], one["seed"]) == (name, number) for one in reports):
            continue
        if time.monotonic() > until:
            click.echo(f"{minutes:g} minutes are over: --resume goes on", err=True)
            break
        before = tuple(reports)

        def tell(now: Report, before: tuple[dict[str, Any], ...] = before) -> None:
            report.write_text(json.dumps([*before, now.as_dict() | asked], indent=1), "utf-8")
            click.echo(f"{time.strftime('%H:%M:%S')} {now}", err=True)

        with (
            tempfile.TemporaryDirectory(prefix="failovers-") as directory,
            system(Path(directory), name, broker) as on,
        ):
            found = run(on, name, number, failovers, tell, faults or FAULTS, until)
            if found.violations:
                logs = report.with_suffix("") / f"{name}-{number}"
                shutil.copytree(on.stack.data_dir / "log", logs, dirs_exist_ok=True)
                click.echo(f"{logs} has the logs of its processes", err=True)
        for violation in found.violations:
            click.secho(f"{name}, seed {number}: {violation}", fg="red", err=True)
        reports.append(found.as_dict() | asked)
    click.echo(json.dumps(reports) if as_json else json.dumps(_totals(reports), indent=1))
    sys.exit(1 if any(one["violations"] for one in reports) else 0)


def _commit() -> str:
    """The commit that is checked out, so that no report mixes two."""
    return subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def _had(report: Path, asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What a report has of seeds that were asked for in the same way and came to their end."""
    found = json.loads(report.read_text("utf-8")) if report.exists() else []
    return (one for one in found if one["is_over"] and asked.items() <= one.items())


def _totals(reports: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Of each topology."""
    return {
        name: {
            "seeds": len(mine),
            "violations": sum(len(one["violations"]) for one in mine),
            **{what: sum(one[what] for one in mine) for what in ("failovers", "buffered_lost", "dead_letters")},
        }
        for name in TOPOLOGIES
        if (mine := [one for one in reports if one["topology"] == name])
    }


main()
