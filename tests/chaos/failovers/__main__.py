"""`make failovers`: many failovers, one after the other, and a report."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from tests.chaos.failovers.run import BROKER, BROKERS, Report, run, system
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
@click.option("--failovers", type=click.IntRange(1), default=100, show_default=True, help="How many, of each.")
@click.option("--fault", "faults", type=click.Choice(FAULTS), multiple=True, help="Which; all without it.")
@click.option("--seed", type=int, default=1, show_default=True, help="Decides which, when and how.")
@click.option(
    "--report", type=click.Path(dir_okay=False, path_type=Path), default="failovers.json", show_default=True
)
@click.option("--json", "as_json", is_flag=True, help="Print the report, and nothing else, to standard output.")
def main(
    names: tuple[str, ...],
    broker: str,
    failovers: int,
    faults: tuple[str, ...],
    seed: int,
    report: Path,
    as_json: bool,
) -> None:
    """Let primaries of Redis be replaced, and see whether what was promised is kept. Exits with 1 if it is not."""
    console = Console(stderr=True)
    reports: list[Report] = []
    for name in names or tuple(TOPOLOGIES):
        with (
            tempfile.TemporaryDirectory(prefix="failovers-") as directory,
            system(Path(directory), name, broker) as on,
            Progress(console=console) as progress,
        ):
            task = progress.add_task(name, total=failovers)
            reports.append(
                run(
                    on,
                    name,
                    seed,
                    failovers,
                    lambda done, task=task: progress.update(task, completed=done),
                    faults or FAULTS,
                )
            )
        for one in reports[-1].violations:
            console.print(f"[bold red]{name}[/]: {one}")
    result = [one.as_dict() for one in reports]
    report.write_text(json.dumps(result, indent=1), "utf-8")
    click.echo(json.dumps(result) if as_json else json.dumps(result, indent=1))
    sys.exit(1 if any(one.violations for one in reports) else 0)


main()
