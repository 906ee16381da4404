"""`make chaos`: many seeds, one after the other, and a report."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.chaos.faults import System
from tests.chaos.run import Account, run, totals


@click.command()
@click.option("--seeds", type=click.IntRange(1), default=20, show_default=True, help="How many.")
@click.option("--seed", type=int, default=1, show_default=True, help="The first.")
@click.option("--seconds", type=click.FloatRange(1), default=20.0, show_default=True, help="Of trouble, for each.")
@click.option("--minutes", type=click.FloatRange(0), default=15.0, show_default=True, help="Begin no seed after.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), default="chaos.json", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the report, and nothing else, to standard output.")
def main(seeds: int, seed: int, seconds: float, minutes: float, report: Path, as_json: bool) -> None:
    """Make trouble for the whole system, and see whether it keeps its promises. Exits with 1 if it does not."""
    accounts: list[Account] = []
    began = time.monotonic()
    progress = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="chaos-") as directory, System(Path(directory)) as system:
        for number in track(range(seed, seed + seeds), "making trouble", console=progress):
            if time.monotonic() - began > minutes * 60:
                progress.print(f"{minutes:g} minutes are over, {seed + seeds - number} seeds are left out")
                break
            accounts.append(run(system, number, seconds))
            for one in accounts[-1].violations:
                progress.print(f"[bold red]seed {number}[/]: {one.kind} {one.key}: {one.what}")
    result = totals(accounts) | {"runs": [one.as_dict() for one in accounts]}
    report.write_text(json.dumps(result, indent=1), "utf-8")
    if as_json:
        click.echo(json.dumps(result))
    else:
        _show(result, report)
    sys.exit(1 if any(one.violations for one in accounts) else 0)


def _show(result: dict, report: Path) -> None:
    table = Table("", "", show_header=False)
    for name, value in result.items():
        if name != "runs":
            shown = (
                ", ".join(f"{key}: {number}" for key, number in value.items())
                if isinstance(value, dict)
                else value
            )
            table.add_row(name.replace("_", " "), str(shown))
    Console().print(table)
    click.echo(f"{report} has the runs; --seed N --seeds 1 repeats one")


if __name__ == "__main__":
    main()
