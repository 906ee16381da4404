"""The items of a bulk request: found one after the other, so that no more of them is held than is worked on.

A body may hold far more items than a request may have, and values that take many times the bytes of their text.
So items are counted while they are found, and only one of them at a time becomes values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from werkzeug.exceptions import RequestEntityTooLarge

from writebehind import ANY, BulkOperation
from writebehind.documents import codec, patches
from writebehind.documents.idempotency import IdempotencyKey
from writebehind.documents.nesting import holds_more
from writebehind.errors import (
    DocumentTooLargeError,
    InvalidDocumentError,
    MalformedDocumentError,
    RequestError,
)
from writebehind.flask.bodies import check_holders
from writebehind.flask.representations import state_of
from writebehind.plurals import counted
from writebehind.strict import UNCONDITIONAL

#: Where a part of a body begins and ends.
Span = tuple[int, int]
#: Makes the idempotency key of an item.
KeyOf = Callable[[int, bytes, object], IdempotencyKey | None]


def no_key(_at: int, _item: bytes, _own: object) -> None:
    """No key, for any item."""


#: The bytes of an item besides its document.
ENVELOPE_BYTES = 65_536
_FIELDS = {"op", "id", "doc", "if_match", "key"}
_OPERATIONS = ("put", "patch", "delete")
#: As many characters before the end of a window, what is wrong may be that it ends there.
_LONGEST_ESCAPE = 8
_SPACE, _LINE = re.compile(r"[ \t\r\n]*"), re.compile(rb"([^\r\n]*)[\r\n]?")
_BLANKS = b" \t\r\n"
#: Lines for each item that there may be: blank ones count, and so do both characters of an end.
_LINES_OF_ITEM = 4
#: Text that the scanner takes and JSON does not: half a surrogate pair, and bytes that are not UTF-8.
_MAY_BE_WRONG = re.compile(rb"\\u[dD][89a-fA-F]|[\x80-\xff]")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


#: Finds where a value ends, and makes as little of it as can be.
_SCANNER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse)


@dataclass(frozen=True, slots=True)
class Items:
    """The items of a body, each read when its turn comes: as an operation, or the error that it is.

    Attributes:
        data: the body.
        spans: where each item stands in it.
        most_bytes: of a document.
        key_of: the idempotency key of an item, by its place, its text and the key that stands in it, if any.
        hidden: the error that an item is which is to be compared with what its document has; `None` for none.
    """

    data: bytes
    spans: Sequence[Span]
    most_bytes: int
    key_of: KeyOf
    hidden: RequestError | None = None

    def __len__(self) -> int:
        return len(self.spans)

    def __iter__(self) -> Iterator[BulkOperation | RequestError]:
        longest = self.most_bytes + ENVELOPE_BYTES
        for at, (start, end) in enumerate(self.spans):
            try:
                if end - start > longest:
                    raise DocumentTooLargeError(f"the item takes {end - start} bytes; {longest} are allowed")
                item = self.data[start:end]
                check_holders(item, longest)
                parsed = codec.parse(item)
                operation = _operation(parsed, self.most_bytes, converted=codec.may_have_wrappers(item))
                if self.hidden and operation.if_match is not UNCONDITIONAL and {*operation.if_match} != {ANY}:
                    raise self.hidden
                key = self.key_of(at, item, parsed.get("key"))
                yield replace(operation, key=key) if key else operation
            except RequestError as error:
                yield error


def read_items(
    data: bytes,
    *,
    most: int,
    most_bytes: int,
    most_holders: int,
    key_of: KeyOf = no_key,
    hidden: RequestError | None = None,
) -> Items:
    """Find the items of a JSON array, or of NDJSON. A line of NDJSON that is no JSON is an error by itself.

    Args:
        data: the body.
        most: items that there may be.
        most_bytes: of a document.
        most_holders: objects and arrays that there may be in all.
        key_of: see `Items`.
        hidden: see `Items`.

    Raises:
        MalformedDocumentError: an array is no JSON, or there is nothing at all.
        InvalidDocumentError: an item of an array is nested too deep.
        RequestEntityTooLarge: there are more items, objects or arrays, or an item of an array is far larger than
            a document may be.
    """
    if holds_more(data, most_holders):
        raise RequestEntityTooLarge(f"more than {most_holders} objects and arrays: send the items in parts")
    longest = most_bytes + ENVELOPE_BYTES
    begins = len(data) - len(data.lstrip(_BLANKS))
    is_array = data.startswith(b"[", begins)
    spans = _in_array(data, begins + 1, most, 2 * longest) if is_array else _in_lines(data, most)
    return Items(data, spans, most_bytes, key_of, hidden)


def named_id(text: bytes) -> Any:
    """The id in an item, as it was sent; `None` where there is none, or the item is no JSON."""
    try:
        item = codec.parse(text)
    except RequestError:
        return None
    return item.get("id") if isinstance(item, dict) else None


def _in_lines(data: bytes, most: int) -> list[Span]:
    spans: list[Span] = []
    most_lines = _LINES_OF_ITEM * (most + 1)
    for count, line in enumerate(_LINE.finditer(data)):
        if count == most_lines:
            raise RequestEntityTooLarge(
                f"more than {counted(most_lines, 'line')}, blank ones with them: send fewer"
            )
        if not line[1].strip(_BLANKS):
            continue
        if len(spans) == most:
            raise RequestEntityTooLarge(_too_many(most))
        spans.append(line.span(1))
    if not spans:
        raise MalformedDocumentError("send a JSON array of operations, or one operation per line (NDJSON)")
    return spans


def _in_array(data: bytes, at: int, most: int, longest: int) -> list[Span]:
    """The places of the items, each of which is seen to be JSON; `at` is behind the bracket."""
    text = _Window(data, 2 * longest)
    spans: list[Span] = []
    at = text.skip_space(at)
    if text.at(at) == "]":
        at += 1
    else:
        while True:
            if len(spans) == most:
                raise RequestEntityTooLarge(_too_many(most))
            end = text.end_of_value(at)
            if end - at > longest:
                raise RequestEntityTooLarge(f"an item takes more than {longest} bytes")
            if _MAY_BE_WRONG.search(data, at, end):
                codec.parse(data[at:end])
            spans.append((at, end))
            at = text.skip_space(end) + 1
            if text.at(at - 1) == "]":
                break
            if text.at(at - 1) != ",":
                raise MalformedDocumentError(f"This is not valid JSON: a comma or ] is missing at byte {at - 1}")
            at = text.skip_space(at)
    if text.skip_space(at) != len(data):
        raise MalformedDocumentError(f"This is not valid JSON: there is more behind the array, at byte {at}")
    return spans


class _Window:
    """A part of a body as text, which moves on. Each byte is a character: only strings have others than ASCII."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data = data
        self._size = size
        self._begins = 0
        self._text = data[:size].decode("latin-1")

    def at(self, place: int) -> str:
        """The character at a place; '' behind the end."""
        self._move(place)
        return self._text[place - self._begins : place - self._begins + 1]

    def skip_space(self, place: int) -> int:
        """The place behind white space."""
        while True:
            self._move(place)
            found = _SPACE.match(self._text, place - self._begins)
            end = self._begins + (found.end() if found else 0)
            if end < self._begins + len(self._text) or end >= len(self._data):
                return end
            place = end

    def end_of_value(self, place: int) -> int:
        """The place behind the value that begins here, which is longer than half a window at most.

        Raises:
            InvalidDocumentError: it is nested too deep.
            MalformedDocumentError: it is no JSON.
            RequestEntityTooLarge: it does not end in this window.
        """
        self._move(place)
        try:
            _, end = _SCANNER.raw_decode(self._text, place - self._begins)
        except RecursionError as error:
            raise InvalidDocumentError("an item is nested too deep") from error
        except ValueError as error:
            if self._begins + len(self._text) < len(self._data) and self._is_cut(error):
                raise RequestEntityTooLarge(f"an item takes more than {self._size // 2} bytes") from error
            raise MalformedDocumentError(f"This is not valid JSON: see the item at byte {place}") from error
        return self._begins + end

    def _is_cut(self, error: ValueError) -> bool:
        """Whether a value may go on behind the window: what is wrong is its end, or a string that has none."""
        at = error.pos if isinstance(error, json.JSONDecodeError) else 0
        return at >= len(self._text) - _LONGEST_ESCAPE or "Unterminated" in str(error)

    def _move(self, place: int) -> None:
        """See that half a window at least is ahead of a place, as far as there is so much."""
        ends = self._begins + len(self._text)
        if ends < len(self._data) and ends - place < self._size // 2:
            self._begins = place
            self._text = self._data[place : place + self._size].decode("latin-1")


def _operation(item: Any, most_bytes: int, *, converted: bool) -> BulkOperation:
    """The operation that an item is; its values are `converted` where they may be wrapped."""
    if not isinstance(item, dict) or item.get("op") not in _OPERATIONS or "id" not in item:
        raise RequestError('an operation is {"op": "put", "patch" or "delete", "id": …, "doc": …, "if_match": …}')
    if unknown := item.keys() - _FIELDS:
        raise RequestError(f"unknown field {min(unknown)[:40]!r} in the operation")
    native = codec.convert if converted else _unchanged
    given = native(item["id"])
    etags = _etags(item["if_match"]) if "if_match" in item else UNCONDITIONAL
    if item["op"] == "delete":
        return BulkOperation("delete", given, if_match=etags)
    content = native(item.get("doc"))
    if item["op"] == "put":
        if not isinstance(content, dict):
            raise InvalidDocumentError("doc must be a JSON object")
        return BulkOperation("put", given, document=content, if_match=etags)
    if isinstance(content, list):
        change = patches.json_patch(content, most_bytes=most_bytes)
    else:
        change = patches.merge_patch(content)
    return BulkOperation("patch", given, change=change, if_match=etags)


def _unchanged(tree: Any) -> Any:
    return tree


def _etags(given: Any) -> tuple[str, ...]:
    etags = given if isinstance(given, list) else [given]
    if not etags or not all(isinstance(one, str) and one for one in etags):
        raise RequestError("if_match must be an ETag, a list of ETags, or *")
    return tuple(map(_etag, etags))


def _etag(given: str) -> str:
    """An ETag without its quotes, which may be left out; `"*"`, with quotes, is one that nothing has."""
    if given == f'"{ANY}"':
        return ""
    return state_of(given[1:-1] if len(given) > 1 and given[0] == given[-1] == '"' else given)


def _too_many(most: int) -> str:
    return f"more than {counted(most, 'item')} in one request: send them in parts"
