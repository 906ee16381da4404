"""The routes that change single documents."""

from __future__ import annotations

from flask import Response, request

from writebehind import Pipeline
from writebehind.documents import codec, patches
from writebehind.documents.patches import MOST_OPERATIONS
from writebehind.flask.access import hide_tag
from writebehind.flask.addresses import DOCUMENT
from writebehind.flask.bodies import JSON_PATCH, JSON_TYPES, MERGE_PATCH, document_text
from writebehind.flask.conditions import if_match, refuse_conditions
from writebehind.flask.declarations import Routes
from writebehind.flask.description.operations import content, operation
from writebehind.flask.idempotency import idempotency_key
from writebehind.flask.parameters import durability
from writebehind.flask.routes.declared import WRITING, WRITTEN
from writebehind.flask.routes.written import written_answer
from writebehind.mql.updates import reading as updates
from writebehind.mql.updates.update import compile_update

_CHANGED = {"200": WRITTEN, "202": WRITTEN}
_INCREMENTED = content("Incremented")
_PATCH = operation(
    "patch_document",
    "durability Idempotency-Key If-Match",
    _CHANGED,
    WRITING,
    body={
        "content": {
            MERGE_PATCH: {"schema": {"type": "object"}},
            # Without `items`, or else what openapi-python-client makes of the two fails for both: Python cannot
            # ask whether a value is a `list[Item]`. So it leaves this one out, and says so.
            JSON_PATCH: {
                "schema": {"type": "array", "maxItems": MOST_OPERATIONS, "description": "operations of RFC 6902"}
            },
        }
    },
)
_INCREMENT = operation(
    "increment_document",
    "durability Idempotency-Key",
    {"200": _INCREMENTED, "201": _INCREMENTED, "202": _INCREMENTED},
    WRITING,
    body=content("Numbers"),
)
_UPDATE = operation(
    "update_document", "durability Idempotency-Key If-Match", _CHANGED, WRITING, body=content("Update")
)


def changes(pipeline: Pipeline) -> Routes:
    """The routes, bound to a pipeline."""
    routes = Routes("changes", __name__)
    routes.after_request(hide_tag)
    most_bytes = pipeline.settings.max_document_bytes

    @routes.patch(DOCUMENT, operation=_PATCH)
    def patch(collection: str, id: str) -> Response:  # noqa: A002
        """Change a document."""
        target = pipeline.collection(collection)
        asked = durability()
        etags = if_match()
        text = document_text((MERGE_PATCH, JSON_PATCH), most_bytes)
        key, patch = idempotency_key(request.environ, text), codec.loads(text)
        if request.mimetype == MERGE_PATCH:
            change = patches.merge_patch(patch)
        else:
            change = patches.json_patch(patch, most_bytes=most_bytes)
        written = target.patch(id, change, if_match=etags, durability=asked, key=key)
        return written_answer(written, asked, target.settings)

    @routes.post(f"{DOCUMENT}:increment", operation=_INCREMENT)
    def increment(collection: str, id: str) -> Response:  # noqa: A002
        """Add to numbers of a document, atomically."""
        target = pipeline.collection(collection)
        asked = durability()
        refuse_conditions()
        text = document_text(JSON_TYPES, most_bytes)
        key, deltas = idempotency_key(request.environ, text), codec.loads(text)
        done = target.increment(id, deltas, durability=asked, key=key)
        return written_answer(done.written, asked, target.settings, b',"values":' + codec.dumps(done.values))

    @routes.post(f"{DOCUMENT}:update", operation=_UPDATE)
    def update(collection: str, id: str) -> Response:  # noqa: A002
        """Change a document by MongoDB's update operators."""
        target = pipeline.collection(collection)
        asked = durability()
        etags = if_match()
        text = document_text(JSON_TYPES, most_bytes)
        key = idempotency_key(request.environ, text)
        change = compile_update(updates.loads(text), most_bytes=most_bytes)
        written = target.patch(id, change, if_match=etags, durability=asked, key=key)
        return written_answer(written, asked, target.settings)

    return routes
