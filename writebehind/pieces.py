"""Large documents as JSON text, a run of elements at a time: values of the whole document never exist at once.

A document of 16 MB may have more than a million values, each of which takes many times its bytes in Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import error as OutOfBoundsError  # noqa: N812 - its own name says nothing
from typing import Final

import orjson

from writebehind.elements import ARRAY, OBJECT, Element, document, elements, field

#: About how many bytes of BSON become values at once.
RUN_BYTES: Final = 64 << 10

#: What makes JSON text of a document that is small.
_Write = Callable[[bytes], bytes]


def in_pieces(body: bytes, write: _Write) -> bytes:
    """Return the JSON text of a document, in pieces of which `write` makes each.

    Args:
        body: BSON.
        write: makes JSON text, without white space, of a BSON document.

    Raises:
        ValueError: This is not BSON.
        Exception: What `write` raises.
    """
    try:
        if not _is_divisible(body, (OBJECT, 0, len(body))):
            return write(body)
        return b"".join(_pieces(body, (OBJECT, 0, len(body)), write))
    except OutOfBoundsError as error:
        raise ValueError("a length leads out of the document") from error


def _pieces(raw: bytes, holder: Element, write: _Write) -> Iterator[bytes]:
    kind = holder[0]
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
    """What an object or an array consists of: runs of elements, and large ones by themselves, with their names."""
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


def _run(kind: int, run: bytes, write: _Write) -> bytes:
    """The text of some elements of an object or an array, without what encloses all of them."""
    if kind == OBJECT:
        return write(document([run]))[1:-1]
    return write(document([field(ARRAY, b"", document([run]))]))[len(b'{"":[') : -len(b"]}")]


def _is_divisible(raw: bytes, one: Element) -> bool:
    """Whether the text of a value is that of its elements: not of what has equal names, or means a type by `$`."""
    kind, at, _ = one
    if kind == ARRAY:
        return True
    names: set[bytes] = set()
    for name, _ in elements(raw, at) if kind == OBJECT else ():
        if name in names or name.startswith(b"$"):
            return False
        names.add(name)
    return kind == OBJECT
