"""`writebehind plan`: sizes of an installation for a load."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import orjson
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from rich.console import Console
from rich.table import Table

from writebehind.cli.columns import columns
from writebehind.cli.consistency import Duration
from writebehind.planning.constants import load_constants
from writebehind.planning.load import Load
from writebehind.planning.plan import Figure, Plan, make_plan

#: Options that are times.
_TIMES = ("outage", "ttl")


def _option(name: str, field: FieldInfo) -> Callable[[Any], Any]:
    """The option for a field of a load; its bounds are checked with the load."""
    of = [one for one in _parts(field.annotation) if one is not type(None)]
    kind: Any = Duration() if name in _TIMES else of[0] if of[0] in {int, float} else str
    shown = field.default if field.default is None or name not in _TIMES else f"{field.default:g}s"
    return click.option(
        _flag(name), type=kind, default=shown, show_default=True, help=_sentence(field.description)
    )


def _parts(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in {types.UnionType, typing.Union}:
        return tuple(part for one in typing.get_args(annotation) for part in _parts(one))
    if typing.get_origin(annotation) is typing.Annotated:
        return _parts(typing.get_args(annotation)[0])
    return (annotation,)


def _flag(name: object) -> str:
    return f"--{name}".replace("_", "-")


def _sentence(text: str | None) -> str:
    return f"{(text or '')[:1].upper()}{(text or '')[1:]}."


def _of_load(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option for each field of a load."""
    for name, field in reversed(Load.model_fields.items()):
        command = _option(name, field)(command)
    return command


@click.command()
@_of_load
@click.option(
    "--constants",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of what things cost, as `make bench` writes it; else those of a reference machine.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def plan(path: Path | None, as_json: bool, **given: Any) -> None:
    """Plan an installation for a load.

    The plan has servers, memory, processes, settings and operations of MongoDB, each with its derivation.

    No server is asked. Warnings say where a figure is not to be relied on; docs/capacity.md says how figures are
    made, and how far they were from systems that ran.
    """
    try:
        load = Load.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        words = first["msg"].removeprefix("Value error, ")
        raise click.UsageError(f"{_flag(first['loc'][0])}: {words}" if first["loc"] else words) from error
    made = make_plan(load, load_constants(path))
    if as_json:
        click.echo(orjson.dumps(made.as_dict()))
    else:
        _show(made)


def _show(made: Plan) -> None:
    table = Table(*columns("", "", "because"), box=None, padding=(0, 2, 0, 0))
    for one in made.figures:
        table.add_row(one.title, _value(one), one.because)
    Console().print(table)
    for line in made.warnings:
        click.echo(f"warning: {line}")


def _value(figure: Figure) -> str:
    return "never" if figure.value is None else f"{figure.value:,}"
