"""`writebehind keys`: who may do what through the HTTP API."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.table import Table

from writebehind.access.keys import ApiKey, Token, new_id
from writebehind.cli.columns import columns
from writebehind.cli.durations import Duration
from writebehind.cli.installation import opened
from writebehind.logs.quoting import printable_line
from writebehind.operations.api_keys import OVERLAP_S, Issued, KeyOffice, Revoked

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, one line for each key.")


@click.group()
def keys() -> None:
    """Say who may do what through the HTTP API.

    As long as there is no key, everybody who reaches the API may do everything. With the first one, nobody may
    without a key: send it as `Authorization: Bearer wb_…`.
    """


@keys.command()
@click.argument("name")
@click.option(
    "--allow",
    "grants",
    multiple=True,
    required=True,
    help="What it allows: `users:read,write` for a collection, `*:read` for all, `admin` to operate. Repeat it.",
)
@click.option("--expires", type=Duration(), help="Refuse it after this time, such as 90d. By default never.")
@click.option("--rate", type=float, help="Items in a second; 0 for any number. By default what the settings say.")
@click.option(
    "--concurrency",
    type=int,
    help="Requests at a time in a web process; 0 for any number. By default what the settings say.",
)
@_as_json
def create(
    name: str,
    grants: tuple[str, ...],
    *,
    expires: float | None,
    rate: float | None,
    concurrency: int | None,
    as_json: bool,
) -> None:
    """Make a key, and print its token, which is shown this once."""
    with _office() as office:
        issued = office.create(name, grants, expires_s=expires, rate=rate, concurrency=concurrency)
        _print_issued(issued, as_json)


@keys.command("list")
@_as_json
def listed(as_json: bool) -> None:
    """List all keys, without their secrets. That one exists which the settings give is said on standard error."""
    with _office() as office:
        found, root = office.listed(), office.root_id
    if root is not None:
        click.echo(f"besides these, WRITEBEHIND_ROOT_KEY gives key {root}, which may do everything", err=True)
    if as_json or not found:
        _print_each(found, as_json)
        return
    table = Table(*columns("id", "name", "state", "allows", "limits", "made", "expires"))
    for one in found:
        told = one.as_dict(_now_ms())
        cells = (
            one.id,
            one.name,
            told["state"],
            " ".join(told["allow"]),
            _limits(one),
            _date(one.created_ms),
            _date(one.expires_ms),
        )
        table.add_row(*(printable_line(cell).replace("[", "\\[") for cell in cells))
    Console().print(table)


@keys.command()
@click.argument("key")
@_as_json
def show(key: str, as_json: bool) -> None:
    """Show a key by its id or name, without its secrets."""
    with _office() as office:
        _print_each([office.get(key)], as_json)


@keys.command()
@click.argument("key")
@click.option(
    "--overlap",
    type=Duration(),
    default=OVERLAP_S,
    help="For so long the former secret is accepted as well; by default 1d.",
)
@_as_json
def rotate(key: str, overlap: float, as_json: bool) -> None:
    """Give a key a new secret, and print its token, which is shown this once."""
    with _office() as office:
        issued = office.rotate(key, overlap_s=overlap)
        _print_issued(issued, as_json)
        if overlap:
            until = _date(issued.key.former_until_ms)
            click.echo(f"the secret before is accepted until {until}: --overlap 0s refuses it at once", err=True)


@keys.command()
@click.argument("key")
@_as_json
def revoke(key: str, as_json: bool) -> None:
    """Refuse a key from now on: every process does within 5 seconds."""
    with _office() as office:
        _print_each([office.revoke(key)], as_json)


@keys.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def generate(file: Path) -> None:
    """Make a key for WRITEBEHIND_ROOT_KEY_FILE, which may do everything, in a file; one that is there stays.

    It asks no server, so that it can be done before anything starts.
    """
    try:
        made = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(made, "w") as text:
            text.write(f"{Token.new(new_id()).text}\n")
    except FileExistsError:
        click.echo(f"{file} is there already", err=True)
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from None
    else:
        click.echo(f"a key is in {file}", err=True)


@contextmanager
def _office() -> Iterator[KeyOffice]:
    with opened(checked=True) as pipeline:
        yield KeyOffice(pipeline.store.api_keys, pipeline.keyring)


def _print_issued(issued: Issued, as_json: bool) -> None:
    if as_json:
        click.echo(orjson.dumps(issued.as_dict(_now_ms())))
        return
    click.echo(f"{issued.token.text}")
    click.echo(f"key {issued.key.id}: keep the token above, it is not shown again", err=True)


def _print_each(found: Sequence[ApiKey | Revoked], as_json: bool) -> None:
    if not found and not as_json:
        click.echo("none in Redis")
    for one in found:
        told = one.as_dict(_now_ms())
        if as_json:
            click.echo(orjson.dumps(told))
            continue
        for name, value in told.items():
            if name.endswith("_ms"):
                date = "none" if value is None and name == "former_secret_until_ms" else _date(value)
                click.echo(f"{name.removesuffix('_ms').replace('_', ' ')}: {date}")
            else:
                click.echo(f"{name}: {printable_line(_told(name, value))}")


def _limits(key: ApiKey) -> str:
    """The limits that a key has for itself; '' where those of the settings hold."""
    rate = "" if key.rate is None else "any rate" if not key.rate else f"{key.rate:g}/s"
    number = key.concurrency
    at_a_time = "" if number is None else "any number at a time" if not number else f"{number} at a time"
    return ", ".join(filter(None, (rate, at_a_time)))


def _told(name: str, value: Any) -> str:
    if isinstance(value, list):
        return " ".join(value)
    if name == "replicated":
        return "there are no replicas" if value is None else "yes" if value else "no"
    return "as the settings say" if value is None else str(value)


def _date(at_ms: int | None) -> str:
    return "never" if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _now_ms() -> float:
    return time.time() * 1000
