"""Large documents as JSON text, a run of elements at a time: values of the whole document never exist at once.

A document of 16 MB may have more than a million values, each of which takes many times its bytes in Python; or one
string, each byte of which takes six in JSON.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from struct import error as OutOfBoundsError  # noqa: N812 - its own name says nothing
from typing import Final

import orjson

from writebehind.documents.elements import (
    ARRAY,
    CODE,
    CODE_WITH_SCOPE,
    OBJECT,
    STRING,
    SYMBOL,
    Element,
    document,
    elements,
    field,
)
from writebehind.errors import UnreadableDocumentError

#: About how many bytes of BSON become values at once.
RUN_BYTES: Final = 64 << 10
#: Bytes of BSON of which many values may be made at once; and of the text of one, such as a regular expression.
MOST_WHOLE: Final = 4 << 20
MOST_TEXT: Final = 32 << 20
_HOLDERS: Final = frozenset({OBJECT, CODE_WITH_SCOPE})
#: Bytes that take so many more in JSON.
_ESCAPED: Final = bytes(range(32))
_MORE_BYTES: Final = 5
#: What encloses the text of a value that is text, by its type.
_TEXTS: Final = {STRING: (b'"', b'"'), CODE: (b'{"$code":"', b'"}'), SYMBOL: (b'{"$symbol":"', b'"}')}
#: Bytes of a character of UTF-8 after its first one, at most, and how they begin.
_MOST_MORE, _MORE_MASK, _MORE = 3, 0xC0, 0x80

#: What makes JSON text of a document that is small.
_Write = Callable[[bytes], bytes]


def in_pieces(body: bytes, write: _Write) -> bytes:
    """Return the JSON text of a document, in pieces of which `write` makes each.

    Args:
        body: BSON.
        write: makes JSON text, without white space, of a BSON document.

    Raises:
        ValueError: This is not BSON.
        UnreadableDocumentError: A part of it that cannot be divided would take too much memory.
        Exception: What `write` raises.
    """
    try:
        if not _is_divisible(body, (OBJECT, 0, len(body))):
            _see_whole(OBJECT, body)
            return write(body)
        text = io.BytesIO()  # which grows in its place, and is given away as it is: the text is there once
        text.writelines(_pieces(body, (OBJECT, 0, len(body)), write))
        return text.getvalue()
    except OutOfBoundsError as error:
        raise ValueError("a length leads out of the document") from error


def _pieces(raw: bytes, holder: Element, write: _Write) -> Iterator[bytes]:
    kind = holder[0]
    if kind in _TEXTS:
        yield from _text(raw, holder)
        return
    yield b"[" if kind == ARRAY else b"{"
    comma = b""
    for name, whole, run in _runs(raw, holder):
        yield comma
        comma = b","
        if whole is None:
            yield _run(kind, run, write)
        else:
            if kind == OBJECT:
                yield orjson.dumps(name.decode()) + b":"
            yield from _pieces(raw, whole, write)
    yield b"]" if kind == ARRAY else b"}"


def _runs(raw: bytes, holder: Element) -> Iterator[tuple[bytes, Element | None, bytes]]:
    """Parts of an object or an array: runs of elements, and large ones by themselves, with their names."""
    _, at, end = holder
    begin = done = at + 4
    for name, one in elements(raw, at):
        is_large = one[2] - one[1] > RUN_BYTES
        if (is_large or done - begin > RUN_BYTES) and done > begin:
            yield b"", None, raw[begin:done]
            begin = done
        done = one[2]
        if is_large and _is_divisible(raw, one):
            yield name, one, b""
            begin = done
    if done != end - 1:
        raise ValueError("an element leads out of its document")
    if done > begin:
        yield b"", None, raw[begin:done]


def _text(raw: bytes, one: Element) -> Iterator[bytes]:
    kind, at, end = one
    at, end = at + 4, end - 1
    if at > end or raw[end]:
        raise ValueError("a string has no end")
    opening, closing = _TEXTS[kind]
    yield opening
    while at < end:
        stop = min(at + RUN_BYTES, end)
        for _ in range(_MOST_MORE):  # else it is no UTF-8, and refused as such
            stop -= stop < end and raw[stop] & _MORE_MASK == _MORE
        yield orjson.dumps(raw[at:stop].decode())[1:-1]
        at = stop
    yield closing


def _run(kind: int, run: bytes, write: _Write) -> bytes:
    """The text of some elements of an object or an array, without what encloses all of them."""
    _see_whole(run[0], run)
    if kind == OBJECT:
        return write(document([run]))[1:-1]
    return write(document([field(ARRAY, b"", document([run]))]))[len(b'{"":[') : -len(b"]}")]


def _see_whole(kind: int, raw: bytes) -> None:
    """See that a value may become text as a whole; only one that cannot be divided has many bytes.

    Raises:
        UnreadableDocumentError: it would take too much memory.
    """
    if len(raw) <= MOST_WHOLE:
        return
    escaped = len(raw) - len(raw.translate(None, _ESCAPED))
    if kind in _HOLDERS or len(raw) + _MORE_BYTES * escaped > MOST_TEXT:
        raise UnreadableDocumentError(
            f"others wrote a value of {len(raw)} bytes that cannot be shown in parts, as a name in it occurs "
            "twice or begins with `$`, or as it is no string: read the document from MongoDB"
        )


def _is_divisible(raw: bytes, one: Element) -> bool:
    """Whether the text of a value is that of its elements: not of what has equal names, or means a type by `$`."""
    kind, at, _ = one
    if kind == ARRAY or kind in _TEXTS:
        return True
    names: set[bytes] = set()
    for name, _ in elements(raw, at) if kind == OBJECT else ():
        if name in names or name.startswith(b"$"):
            return False
        names.add(name)
    return kind == OBJECT
