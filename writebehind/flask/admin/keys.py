"""The routes of API keys."""

from __future__ import annotations

import time
from typing import Any

from flask import Response

from writebehind import Pipeline
from writebehind.documents import codec
from writebehind.errors import InvalidDocumentError, RequestError
from writebehind.flask.answers import as_json
from writebehind.flask.bodies import JSON_TYPES, document_text
from writebehind.flask.conditions import refuse_conditions
from writebehind.flask.declarations import Routes
from writebehind.flask.description.operations import administered, content
from writebehind.flask.parameters import only
from writebehind.operations.api_keys import OVERLAP_S, KeyOffice

_MOST_BYTES = 65_536
_LIST = administered("list_keys", "Keys")
_CREATE = administered("create_key", "IssuedKey", "409 415", status="201", body=content("NewKey"))
_SHOW = administered("get_key", "Key", "404")
_ROTATE = administered("rotate_key", "IssuedKey", "404 409 415", body=content("Rotation") | {"required": False})
_REVOKE = administered("revoke_key", "RevokedKey", "404")


def keys(pipeline: Pipeline) -> Routes:
    """The routes, bound to a pipeline."""
    routes = Routes("keys", __name__)
    routes.before_request(refuse_conditions)
    office = KeyOffice(pipeline.store.api_keys, pipeline.keyring)

    @routes.get("/keys", operation=_LIST)
    def listed() -> Response:
        """API keys, without their secrets.

        The root key of the settings is not one of them: it is told by its id.
        """
        only()
        return _answer({"keys": [one.as_dict(_now_ms()) for one in office.listed()], "root_key": office.root_id})

    @routes.post("/keys", operation=_CREATE)
    def create() -> Response:
        """Make an API key.

        Its token is shown this once.
        """
        only()
        given = _body("name", "allow", "expires_s", "rate", "concurrency")
        name, allow = given.get("name"), given.get("allow")
        if not (isinstance(name, str) and isinstance(allow, list) and all(isinstance(one, str) for one in allow)):
            raise RequestError('send {"name": "…", "allow": ["users:read,write", "admin"], "expires_s": 86400}')
        issued = office.create(
            name,
            allow,
            expires_s=_number(given, "expires_s"),
            rate=_number(given, "rate"),
            concurrency=_count(given, "concurrency"),
        )
        return _answer(issued.as_dict(_now_ms()), 201)

    @routes.get("/keys/<key>", operation=_SHOW)
    def show(key: str) -> Response:
        """An API key, without its secrets."""
        only()
        return _answer(office.get(key).as_dict(_now_ms()))

    @routes.post("/keys/<key>:rotate", operation=_ROTATE)
    def rotate(key: str) -> Response:
        """Give an API key a new secret.

        Its token is shown this once.
        """
        only()
        overlap_s = _number(_body("overlap_s"), "overlap_s")
        issued = office.rotate(key, overlap_s=OVERLAP_S if overlap_s is None else overlap_s)
        return _answer(issued.as_dict(_now_ms()))

    @routes.delete("/keys/<key>", operation=_REVOKE)
    def revoke(key: str) -> Response:
        """Refuse an API key from now on."""
        only()
        return _answer(office.revoke(key).as_dict(_now_ms()))

    return routes


def _body(*names: str) -> dict[str, Any]:
    """The members of the body, an object; none where there is no body."""
    wanted = f"send an object with {', '.join(names)}"
    try:
        given = codec.loads(document_text(JSON_TYPES, _MOST_BYTES) or b"{}")
    except InvalidDocumentError as error:  # nobody wants it to be stored
        raise RequestError(wanted) from error
    if not isinstance(given, dict) or not given.keys() <= set(names):
        raise RequestError(wanted)
    return given


def _number(given: dict[str, Any], name: str) -> float | None:
    number = given.get(name)
    if number is not None and (isinstance(number, bool) or not isinstance(number, int | float)):
        raise RequestError(f"{name} is a number")
    return number


def _count(given: dict[str, Any], name: str) -> int | None:
    number = _number(given, name)
    if number is not None and not isinstance(number, int):
        raise RequestError(f"{name} is a whole number")
    return number


def _answer(body: dict[str, Any], status: int = 200) -> Response:
    """One that no proxy and no browser keeps, as a secret may be in it."""
    return as_json(body, status, {"Cache-Control": "no-store"})


def _now_ms() -> float:
    return time.time() * 1000
