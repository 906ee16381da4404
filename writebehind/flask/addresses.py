"""Paths and query strings of requests, read as UTF-8 and nothing else; and paths to documents."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote

from flask import Request
from werkzeug.datastructures import ImmutableMultiDict
from werkzeug.exceptions import BadRequest
from werkzeug.utils import cached_property

#: What may stand in a part of a path as it is: RFC 3986, section 3.3.
_SAFE = ":@!$&'()*+,;="
#: Clients take these out of a path, also when they are escaped.
_DOTS = {".", ".."}


class StrictRequest(Request):
    """A request whose query string is UTF-8: of others, two would be taken for one."""

    @cached_property
    def args(self) -> ImmutableMultiDict[str, str]:
        """The query parameters.

        Raises:
            BadRequest: they are not UTF-8.
        """
        try:
            pairs = parse_qsl(self.query_string.decode(), keep_blank_values=True, errors="strict")
        except ValueError as error:
            raise BadRequest("the query string is not UTF-8, escaped or not") from error
        return ImmutableMultiDict(pairs)

    def close(self) -> None:
        """Let go of the error that there is no such route: it refers to the frames that refer to this request."""
        super().close()
        self.routing_exception = None

    @property
    def strict_path(self) -> str:
        """The path; what is not UTF-8 in it stays what it is, as surrogates, which no name or id has."""
        path = self.path
        if "\ufffd" in path:  # so says Werkzeug of anything that is not UTF-8
            path = self.environ["PATH_INFO"].encode("latin-1").decode(errors="surrogateescape")
        return path


def path_to(collection: str, document_id: str) -> str | None:
    """The path to a document; `None` where no path leads to it."""
    if "/" in document_id or document_id in _DOTS:
        return None
    return f"/v1/{collection}/{quote(document_id, safe=_SAFE)}"


def path_to_letter(collection: str, document_id: str, version: int) -> str:
    """The path to the dead letter of a version; to all of its collection where none leads to the document's."""
    if path_to(collection, document_id) is None:
        return f"/admin/dead-letters?collection={quote(collection)}"
    return f"/admin/dead-letters/{collection}/{quote(document_id, safe=_SAFE)}?version={version}"
