"""`make increments`: many increments over connections that are cut, and a report."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from tests.chaos.increments.run import Plan, run
from writebehind.local.stack import Stack

ROOT = Path(__file__).parents[3]


@click.command()
@click.option("--increments", type=click.IntRange(1), default=100_000, show_default=True, help="How many.")
@click.option("--clients", type=click.IntRange(1), default=8, show_default=True, help="Who send them.")
@click.option("--documents", type=click.IntRange(1), default=8, show_default=True, help="That are incremented.")
@click.option("--cut", type=click.FloatRange(0, 0.9), default=0.1, show_default=True, help="Part of connections.")
@click.option("--kill-every", type=click.FloatRange(0.1), default=5.0, show_default=True, help="Seconds.")
@click.option("--web-workers", type=click.IntRange(1), default=2, show_default=True, help="Web processes.")
@click.option("--without-keys", is_flag=True, help="Send no Idempotency-Key, to see that it comes out wrong.")
@click.option("--seed", type=int, default=1, show_default=True, help="Decides what is cut and who is killed.")
def main(
    increments: int,
    clients: int,
    documents: int,
    cut: float,
    kill_every: float,
    web_workers: int,
    without_keys: bool,
    seed: int,
) -> None:
    """Cut connections, kill web processes, and see whether increments count once. Exits with 1 if one does not."""
    console = Console(stderr=True)
    plan = Plan(increments, clients, documents, cut, kill_every, not without_keys, seed)
    with tempfile.TemporaryDirectory(prefix="increments-") as name:
        config = Path(name, "writebehind.toml")
        config.touch()
        env = {"WRITEBEHIND_CONFIG": str(config), "WRITEBEHIND_WEB_WORKERS": str(web_workers)}
        columns = (*Progress.get_default_columns(), MofNCompleteColumn())
        with (
            Stack(Path(name, "stack"), env=env, cwd=ROOT) as stack,
            Progress(*columns, console=console) as progress,
        ):
            task = progress.add_task("counting", total=increments)
            account = run(stack, plan, lambda: progress.advance(task))
    click.echo(json.dumps(account.as_dict(), indent=1))
    sys.exit(1 if account.violations else 0)


main()
