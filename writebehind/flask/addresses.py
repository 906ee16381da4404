"""Addresses of the API, wherever it is mounted: rules for paths that are matched, and paths that answers have."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from flask import Blueprint, current_app, request, url_for
from flask.sansio.blueprints import BlueprintSetupState
from werkzeug.routing import BaseConverter

if TYPE_CHECKING:
    from writebehind.flask.description.operations import Operation

#: The name of the API in an application, unless it is given another one.
NAME = "writebehind"
#: The rule of a collection, and of a document of it.
COLLECTION = "/v1/<writebehind_collection:collection>"
DOCUMENT = f"{COLLECTION}/<id>"
#: Characters that may stand in a path as they are: RFC 3986, section 3.3.
_SAFE = "/:@!$&'()*+,;="
#: Clients take these out of a path, also when they are escaped.
_DOTS = {".", ".."}
#: A variable in a rule, with or without its converter, whose arguments may have colons too.
_VARIABLE = re.compile(r"<(?:[^<>]*:)?(\w+)>")


class CollectionConverter(BaseConverter):
    """A collection's name, which ends where an action such as `:bulk` begins."""

    regex = "[^/:]+"


class IdempotencyKeyConverter(BaseConverter):
    """An idempotency key: the rest of the path, as it may have slashes."""

    regex = ".+"
    part_isolating = False


@lru_cache(100)
def template(rule: str) -> str:
    """A rule as OpenAPI writes it, for spans and counts: `/v1/{collection}/{id}`."""
    return _VARIABLE.sub(r"{\1}", rule)


def add_converter(state: BlueprintSetupState) -> None:
    """Let an application understand the rules; it has them before the first of them."""
    state.app.url_map.converters["writebehind_collection"] = CollectionConverter
    state.app.url_map.converters["writebehind_key"] = IdempotencyKeyConverter


@dataclass(frozen=True, slots=True)
class Declared:
    """A route as it declares itself, for the description of the API.

    Attributes:
        path: as OpenAPI writes it.
        method: in small letters.
        summary: the first line of the route's docstring.
        operation: all else.
        in_path: the names of the path's variables.
    """

    path: str
    method: str
    summary: str
    operation: Operation
    in_path: tuple[str, ...] = ()


class Routes(Blueprint):
    """Routes whose paths are taken as they come, whatever the application does with its own.

    Attributes:
        declared: what the description of the API has of them.
    """

    def __init__(self, name: str, import_name: str, **options: Any) -> None:
        """Have no routes yet."""
        super().__init__(name, import_name, **options)
        self.declared: list[Declared] = []

    def add_url_rule(  # type: ignore[override]  # `operation` is ours
        self,
        rule: str,
        endpoint: str | None = None,
        view_func: Callable[..., Any] | None = None,
        *,
        operation: Operation | None = None,
        **options: Any,
    ) -> None:
        """Add a rule: `//` in a path is part of an id, and a wrong one; and no path has a slash at its end.

        Args:
            rule: the path.
            endpoint: its name.
            view_func: what answers.
            operation: what the description has of it; nothing for a page or a file.
            options: as Flask's.
        """
        if operation is not None:
            summary = (view_func.__doc__ or operation.name).partition("\n")[0].removesuffix(".")  # with -OO none
            for method in options["methods"]:
                self.declare(rule, method, summary, operation)
        super().add_url_rule(rule, endpoint, view_func, merge_slashes=False, strict_slashes=True, **options)

    def declare(self, rule: str, method: str, summary: str, operation: Operation) -> None:
        """Let the description have an operation."""
        path = template(f"{self.url_prefix or ''}{rule}")
        self.declared.append(Declared(path, method.lower(), summary, operation, tuple(_VARIABLE.findall(rule))))

    def below(self, prefix: str) -> list[Declared]:
        """The declarations of them where they are below a prefix."""
        return [replace(one, path=f"{prefix}{one.path}") for one in self.declared]


def leads_to(document_id: str) -> bool:
    """Whether a path can lead to a document."""
    return "/" not in document_id and document_id not in _DOTS


def path_to(document_id: str) -> str | None:
    """The path to a document of the collection that is asked; `None` where no path leads to it.

    It begins with the path that the client has asked for, whatever prefixes that has.
    """
    if not leads_to(document_id):
        return None
    return quote(f"{request.root_path}{request.path}/{document_id}", safe=_SAFE)


def path_to_letter(collection: str, document_id: str, version: int) -> str | None:
    """The path to the dead letter of a version; to all of its collection where none leads to the document's.

    `None` where the application has no routes for dead letters.
    """
    if not leads_to(document_id):
        listed = _path("admin.dead_letters.listed")
        return listed and f"{listed}?collection={quote(collection)}"
    shown = _path("admin.dead_letters.show", collection=collection, id=document_id)
    return shown and f"{shown}?version={version}"


def path_to_description(*names: str) -> str | None:
    """The path to the OpenAPI description, of an API of one of these names first; `None` where there is none."""
    return _path("description.openapi", *names)


def _path(endpoint: str, *names: str, **values: Any) -> str | None:
    """The path to a route of the API that is asked, or of the application's; with every prefix before it."""
    for name in (*names, *request.blueprints, NAME):
        known = f"{name}.{endpoint}"
        if known in current_app.view_functions:
            return url_for(known, **values)
    return None
