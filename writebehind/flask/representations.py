"""The forms that documents are answered in: Extended JSON, relaxed or canonical, as `Accept` asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson
from flask import request
from werkzeug.exceptions import NotAcceptable
from werkzeug.http import parse_options_header

from writebehind.documents import codec, large

JSON = "application/json"
NDJSON = "application/x-ndjson"
#: The end of the ETag of a document as canonical JSON: another representation has another one.
_CANONICAL_END = "-canonical"


@dataclass(frozen=True, slots=True)
class Form:
    """A form of Extended JSON.

    Attributes:
        canonical: whether numbers and dates tell their types too.
        content_type: what an answer is of.
    """

    canonical: bool
    content_type: str

    def text(self, body: bytes) -> bytes:
        """A document, given as BSON, in this form.

        Raises:
            UnreadableDocumentError: it is no valid BSON.
            TakesMuchError: it is large, and this is not the thread for it.
        """
        large.see(len(body))
        return codec.to_json(body, canonical=self.canonical)

    def tag(self, etag: str) -> str:
        """The entity tag of this form of a document that has this ETag."""
        return etag + _CANONICAL_END if self.canonical else etag


RELAXED = Form(False, JSON)
CANONICAL = Form(True, f"{JSON}; profile=canonical")
#: By what `Accept: application/json;profile=…` says.
_FORMS = {"relaxed": RELAXED, "canonical": CANONICAL}


def quoted(tag: str) -> str:
    """An entity tag as headers have it."""
    return f'"{tag}"'


def state_of(tag: str) -> str:
    """The ETag of the document, of whose forms one has this entity tag."""
    return tag.removesuffix(_CANONICAL_END)


def wanted_form() -> Form:
    """The form that `Accept` asks for: relaxed, unless it says `application/json;profile=canonical`.

    Raises:
        NotAcceptable: it asks for a profile that there is none of, and accepts nothing else.
    """
    accepted = request.environ.get("HTTP_ACCEPT", "")
    if "profile" not in accepted.lower():  # as good as always
        return RELAXED
    is_relaxed_too = False
    for one, quality in sorted(request.accept_mimetypes, key=lambda one: -one[1]):
        kind, options = parse_options_header(one)
        if quality > 0 and kind.lower() == JSON:
            form = _FORMS.get(options.get("profile", "relaxed").lower())
            if form:
                return form
        is_relaxed_too = is_relaxed_too or (quality > 0 and kind in {"*/*", "application/*"})
    if is_relaxed_too:
        return RELAXED
    raise NotAcceptable(f"the profiles of {JSON} are {' and '.join(_FORMS)}")


def unreadable_and_rest(unreadable: Mapping[str, object], rest: Sequence[str]) -> bytes:
    """Further members of an answer of several documents, where there are any, each after a comma.

    Args:
        unreadable: the problems of documents that cannot be shown, by id.
        rest: the ids of those that would be too much for one answer.
    """
    more = b',"unreadable":' + orjson.dumps(unreadable) if unreadable else b""
    return more + (b',"rest":' + orjson.dumps(rest) if rest else b"")
