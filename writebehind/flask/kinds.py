"""Kinds of requests, told by the paths of the service: for its threads, its limits and its description."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl

from writebehind.access.gate import SAFE
from writebehind.settings.collection import OF_LISTS

#: The paths of those who watch.
HEALTH: Final = "/healthz"
READINESS: Final = "/readyz"
FIGURES: Final = "/metrics"
WATCHING: Final = frozenset({HEALTH, READINESS, FIGURES})
#: The beginnings of paths of documents, of those that operators ask for, and of the console.
DOCUMENTS: Final = "/v1/"
OPERATING: Final = "/admin/"
CONSOLE: Final = "/console"
#: Ends of paths of requests about many documents.
_OF_MANY: Final = (":bulk", ":get", ":export", ":replay")
_COLLECTION: Final = re.compile(r"/v1/[^/:]+")
_MULTI_GET: Final = re.compile(r"/v1/[^/:]+:get")
#: Longer queries, bytes, are not read: they are taken for those of lists.
_LONGEST: Final = 4_096


def reads(method: str, path: str) -> bool:
    """Whether a request writes nothing: by its method, or as `POST /v1/{collection}:get`."""
    return method in SAFE or (method == "POST" and _MULTI_GET.fullmatch(path) is not None)


def is_about_many(method: str, path: str, query: bytes) -> bool:
    """Whether a request may be about many documents: a few of these are not to keep all others waiting."""
    return path.endswith(_OF_MANY) or "/queries/" in path or is_list(method, path, query)


def is_list(method: str, path: str, query: bytes) -> bool:
    """Whether a request asks a collection for a list, as its route has it, and not for the one with a value."""
    if method not in SAFE or not _COLLECTION.fullmatch(path):
        return False
    if not query or len(query) > _LONGEST:
        return True
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, errors="replace")
    return OF_LISTS.issuperset(name for name, _ in pairs)


def asks_for_key(path: str, *, metrics_open: bool = False) -> bool:
    """Whether an API key is asked for at a path, where there is any; figures may be open to all."""
    return path.startswith((DOCUMENTS, OPERATING)) or (path == FIGURES and not metrics_open)


def is_limited(path: str) -> bool:
    """Whether rates are held at a path: at all but those of who watches."""
    return path not in WATCHING
