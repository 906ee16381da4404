"""Addresses of the API, wherever it is mounted: rules for paths that are matched, and paths that answers have."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from flask import current_app, request, url_for
from flask.sansio.blueprints import BlueprintSetupState
from werkzeug.routing import BaseConverter

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


def variables(rule: str) -> tuple[str, ...]:
    """The names of the variables of a rule."""
    return tuple(_VARIABLE.findall(rule))


def add_converter(state: BlueprintSetupState) -> None:
    """Let an application understand the rules; it has them before the first of them."""
    state.app.url_map.converters["writebehind_collection"] = CollectionConverter
    state.app.url_map.converters["writebehind_key"] = IdempotencyKeyConverter


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
