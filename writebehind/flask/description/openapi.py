"""The API's description, OpenAPI 3.1: built from the settings."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import orjson
from apispec import APISpec

import writebehind
from writebehind import Settings
from writebehind.flask.description.operations import Described, content
from writebehind.flask.description.schemas import components, parameters
from writebehind.flask.kinds import asks_for_key, is_limited
from writebehind.flask.problems import CONTENT_TYPE

_SCHEME = "key"
#: What a client that has sent too much is answered, on all paths but those of who watches.
_LIMITED: Described = {
    "description": "The client has sent more than it may: 429 `rate-exceeded`, `concurrency-exceeded`",
    "headers": {
        "Retry-After": {"schema": {"type": "integer"}, "description": "when to come again, seconds"},
        "RateLimit": {"schema": {"type": "string"}, "description": "what is left"},
        "RateLimit-Policy": {"schema": {"type": "string"}, "description": "what there is"},
    },
}


def specification(
    settings: Settings, prefix: str, *, paths: Mapping[str, Mapping[str, Any]], keys: bool = False
) -> bytes:
    """The description as JSON text.

    Args:
        settings: of the pipeline.
        prefix: what stands before each path of the API.
        paths: operations, by path and method.
        keys: whether API keys are asked for, once there are any.
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
    for name, (place, described) in parameters().items():
        spec.components.parameter(name, place, ({"required": True} if place == "path" else {}) | described)
    if keys:
        spec.components.security_scheme(_SCHEME, _scheme(settings))
    for path, these in paths.items():
        operations: Described = deepcopy({**these})  # apispec changes what it is given
        if keys:
            _ask_for_key(operations, asks=asks_for_key(path, metrics_open=settings.metrics_open))
        for one in operations.values():
            if keys and is_limited(path):
                one["responses"]["429"] = _LIMITED | content("Problem", CONTENT_TYPE)
        spec.path(path, operations=operations)
    servers = {"servers": [{"url": prefix}]} if prefix else {}
    return orjson.dumps(spec.to_dict() | servers)


def _scheme(settings: Settings) -> dict[str, str]:
    about = "an API key, `wb_…`; none is asked for as long as there is none"
    more = {}
    if settings.jwt_issuer:
        about = (
            f"an API key, `wb_…`, or a JSON Web Token of {settings.jwt_issuer} for the audience "
            f"{settings.jwt_audience}, whose `{settings.jwt_scope_claim}` has what it allows"
        )
        more = {"bearerFormat": "JWT"}
    return {"type": "http", "scheme": "bearer", "description": about} | more


def _ask_for_key(operations: dict[str, Any], *, asks: bool) -> None:
    """Describe whether operations ask for a key, and their answers where it is missing or does not grant them."""
    for one in operations.values():
        one["security"] = [{_SCHEME: []}] if asks else []
        if asks:
            refused = content("Problem", CONTENT_TYPE)
            one["responses"]["401"] = {"description": "No key, or one that is not live"} | refused
            one["responses"]["403"] = {
                "description": "A problem: `forbidden`, as the key does not grant this"
            } | refused
