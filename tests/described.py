"""Whether each answer that a test gets has a status that the description of the API has for its operation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import httpx
from flask import Flask, request
from flask.wrappers import Response

from writebehind.flask.addresses import template
from writebehind.flask.declarations import Declared, Routes
from writebehind.flask.description.operations import EVERY
from writebehind.flask.kinds import asks_for_key, is_limited

#: What is answered where no operation is meant, as there is no such path, or method; and before anybody looks.
_NO_OPERATION = {"401", "403", "404", "405", "429", *map(str, EVERY)}
#: Pages and their files, which the description does not have.
_FOR_PEOPLE = re.compile("/(console|docs)(/.*)?")


class InProcess:
    """Answers within this process: a receiver of Flask's signal `request_finished`."""

    def __init__(self) -> None:
        self.undescribed: list[str] = []

    def __call__(self, sender: Flask, response: Response, **_more: Any) -> None:
        """See whether the route that was asked has declared this status."""
        rule, routes = request.url_rule, sender.blueprints.get(request.blueprint or "")
        if rule is None or not isinstance(routes, Routes):
            return
        path, method, status = template(rule.rule), request.method.lower(), str(response.status_code)
        declared = _longest(routes, path, "get" if method == "head" else method)
        if declared is None or method == "options" or status in _of_access(path):
            return
        if status not in declared.operation.described(declared.method, "", ())["responses"]:
            self.undescribed.append(f"{method} {path}: {status}")


def _of_access(path: str) -> set[str]:
    """The statuses of those who ask for keys, or hold rates, at a path, below whatever prefix it is mounted."""
    below = [path[at:] for at, one in enumerate(path) if one == "/"]
    refused = {"401", "403"} if any(map(asks_for_key, below)) else set()
    return refused | ({"429"} if all(map(is_limited, below)) else set())


def _longest(routes: Routes, path: str, method: str) -> Declared | None:
    """What is declared of a route, wherever its application has mounted it."""
    fitting = [one for one in routes.declared if path.endswith(one.path) and one.method == method]
    return max(fitting, key=lambda one: len(one.path), default=None)


class OverHttp:
    """Answers of a server to a client: a hook of `httpx` for them."""

    def __init__(self, client: httpx.Client) -> None:
        """Know the description that the server has once it is needed."""
        self._client = client
        self._operations: list[tuple[re.Pattern[str], Mapping[str, Any]]] = []

    def __call__(self, response: httpx.Response) -> None:
        """See that the operation that was asked describes this status."""
        path, method, status = response.request.url.path, response.request.method, str(response.status_code)
        if path == "/openapi.json" or method == "OPTIONS" or _FOR_PEOPLE.fullmatch(path):
            return
        if not self._operations:
            self._operations = _operations(self._client.get("/openapi.json").json())
        found = next((one for pattern, one in self._operations if pattern.fullmatch(path)), {})
        described = found.get(method.lower()) or (found.get("get") if method == "HEAD" else None)
        allowed = _NO_OPERATION if described is None else described["responses"]
        assert status in allowed, f"{method} {path}: {status} is not described"


def _operations(description: Mapping[str, Any]) -> list[tuple[re.Pattern[str], Mapping[str, Any]]]:
    """The operations by patterns of paths, those with most that is fixed first, as `…:bulk`."""
    paths = sorted(description["paths"], key=lambda path: (-path.count("/"), -len(re.sub(r"{\w+}", "", path))))
    return [(_pattern(path), description["paths"][path]) for path in paths]


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"({\w+})", path)
    variables = {"{collection}": "[^/:]+", "{idempotency_key}": ".+"}
    return re.compile(
        "".join(variables.get(one, "[^/]+") if one.startswith("{") else re.escape(one) for one in parts)
    )


def client_of(url: str, **options: Any) -> httpx.Client:
    """A client of the API at an address, whose answers are held against the description."""
    client = httpx.Client(base_url=url, trust_env=False, **options)
    client.event_hooks = {"response": [OverHttp(client)]}
    return client
