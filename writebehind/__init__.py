"""A write-behind pipeline between an HTTP API and MongoDB.

from writebehind import connect

with connect() as pipeline:
    users = pipeline.collection("users")
    users.put("ada", {"name": "Ada"})
    print(users.get("ada"))
"""

from importlib.metadata import version

__version__ = version("writebehind")

from writebehind.aio import AsyncCollection, AsyncPipeline, aconnect
from writebehind.collection import BulkOperation, Collection, Incremented
from writebehind.documents.durability import Durability
from writebehind.documents.ids import DocumentId
from writebehind.errors import WritebehindError
from writebehind.hooks import Hooks, Persisted
from writebehind.pipeline import Pipeline, connect
from writebehind.settings.installation import CollectionSettings, Settings, load_settings
from writebehind.writing.writer import ANY, Written

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
    "load_settings",
]
