"""A write-behind pipeline between an HTTP API and MongoDB.

from writebehind import connect

with connect() as pipeline:
    users = pipeline.collection("users")
    users.put("ada", {"name": "Ada"})
    print(users.get("ada"))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from writebehind import errors
    from writebehind.aio import AsyncCollection, AsyncPipeline, aconnect
    from writebehind.collection import BulkOperation, Collection, Incremented
    from writebehind.documents.durability import Durability
    from writebehind.documents.ids import DocumentId
    from writebehind.errors import WritebehindError
    from writebehind.hooks import Hooks, Persisted
    from writebehind.pipeline import Pipeline, connect
    from writebehind.retrying import until_answered
    from writebehind.settings.collection import CollectionSettings
    from writebehind.settings.installation import Settings, load_settings
    from writebehind.writing.writer import ANY, Written

    __version__: str

__all__ = [
    "ANY",
    "AsyncCollection",
    "AsyncPipeline",
    "BulkOperation",
    "Collection",
    "CollectionSettings",
    "DocumentId",
    "Durability",
    "Hooks",
    "Incremented",
    "Persisted",
    "Pipeline",
    "Settings",
    "WritebehindError",
    "Written",
    "aconnect",
    "connect",
    "errors",
    "load_settings",
    "until_answered",
]

#: Where each name is. It is imported when it is asked for: who does not use the package, such as most runs of a
#: pytest that finds its plugin, pays for no drivers.
_MODULES = {
    "ANY": "writing.writer",
    "AsyncCollection": "aio",
    "AsyncPipeline": "aio",
    "BulkOperation": "writing.bulk",
    "Collection": "collection",
    "CollectionSettings": "settings.collection",
    "DocumentId": "documents.ids",
    "Durability": "documents.durability",
    "Hooks": "hooks",
    "Incremented": "collection",
    "Persisted": "hooks",
    "Pipeline": "pipeline",
    "Settings": "settings.installation",
    "WritebehindError": "errors",
    "Written": "writing.writer",
    "aconnect": "aio",
    "connect": "pipeline",
    "load_settings": "settings.installation",
    "until_answered": "retrying",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for; it stands here from then on."""
    if name == "__version__":
        found: Any = import_module("importlib.metadata").version("writebehind")
    elif name == "errors":
        found = import_module("writebehind.errors")
    elif name in _MODULES:
        found = getattr(import_module(f"writebehind.{_MODULES[name]}"), name)
    else:
        raise AttributeError(f"module 'writebehind' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
