"""The API's description, OpenAPI 3.1: built from the settings."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import orjson
from apispec import APISpec

import writebehind
from writebehind import Settings
from writebehind.flask.description import admin as operators
from writebehind.flask.description import documents
from writebehind.flask.description.operations import OBJECT, Described, operation
from writebehind.flask.description.schemas import components, parameters

_SELF: dict[str, Described] = {
    "/openapi.json": {"get": operation("This description", "", {"200": OBJECT}, "", tag="operation")},
}


def specification(settings: Settings, prefix: str, *, admin: bool, paths: Mapping[str, Any]) -> bytes:
    """The description as JSON text.

    Args:
        settings: of the pipeline.
        prefix: what stands before each path of the API.
        admin: whether there are routes for operators.
        paths: what else is described, by path.
    """
    spec = APISpec(
        title="writebehind",
        version=writebehind.__version__,
        openapi_version="3.1.0",
        info={
            "description": "Writes are acknowledged when Redis has them, and persisted to MongoDB in batches.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
    )
    for name, schema in components(settings).items():
        spec.components.schema(name, schema)
    for name, (place, described) in parameters(settings).items():
        spec.components.parameter(name, place, ({"required": True} if place == "path" else {}) | described)
    every = (
        documents.PATHS | documents.queries(settings) | (operators.PATHS if admin else {}) | dict(paths) | _SELF
    )
    for path, operations in every.items():
        spec.path(path, operations=deepcopy(operations))  # apispec changes what it is given
    servers = {"servers": [{"url": prefix}]} if prefix else {}
    return orjson.dumps(spec.to_dict() | servers)
