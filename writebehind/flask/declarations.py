"""Routes that declare what the description of the API has of them, where they stand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, Final

from flask import Blueprint, request
from werkzeug.exceptions import BadRequest

from writebehind.flask.addresses import template, variables
from writebehind.flask.description.operations import Described, Operation

#: Methods with which a body means nothing: see RFC 9110, 9.3.1.
_HARMLESS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


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
            operation: what the description has of it; nothing for a page or a file. Where it has no body, one that
                is sent is refused, unless the method gives it no meaning.
            options: as Flask's.
        """
        if operation is not None:
            summary = (view_func.__doc__ or operation.name).partition("\n")[0].removesuffix(".")  # with -OO none
            for method in options.get("methods") or ("GET",):  # Flask's own for none
                self.declare(rule, method, summary, operation)
            if operation.body is None and view_func is not None:
                view_func = _without_a_body(view_func)
        super().add_url_rule(rule, endpoint, view_func, merge_slashes=False, strict_slashes=True, **options)

    def declare(self, rule: str, method: str, summary: str, operation: Operation) -> None:
        """Let the description have an operation."""
        path = template(f"{self.url_prefix or ''}{rule}")
        self.declared.append(Declared(path, method.lower(), summary, operation, variables(rule)))

    def below(self, prefix: str) -> list[Declared]:
        """The declarations of them where they are below a prefix."""
        return [replace(one, path=f"{prefix}{one.path}") for one in self.declared]


def _without_a_body(view_func: Callable[..., Any]) -> Callable[..., Any]:
    """The same view, but for a request with a body: what that asks for would be left undone, without a word."""

    @wraps(view_func)
    def answer(*args: Any, **options: Any) -> Any:
        if request.method not in _HARMLESS and request.environ.get("CONTENT_LENGTH", "0") not in {"0", ""}:
            raise BadRequest("this takes no body: what it is to do stands in the path and the query")
        return view_func(*args, **options)

    return answer


def described(declared: Iterable[Declared]) -> dict[str, Described]:
    """The operations of routes by path and method."""
    paths: dict[str, Described] = {}
    for one in declared:
        operations = paths.setdefault(one.path, {})
        for method in (one.method, *(["head"] if one.operation.head else [])):
            operations[method] = one.operation.described(method, one.summary, one.in_path)
    return paths
