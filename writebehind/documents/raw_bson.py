"""The version field of a document, and its ETag, on raw BSON: nothing is decoded, no other byte changes.

A document carries its version as its last field, `_v`. Only MongoDB and the code that talks to it see that
field; a body, here, is the document without it.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from struct import Struct
from typing import Final

from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument

from writebehind.documents.elements import INT32, INT64, element, elements, without

#: The name of the version field.
VERSION_FIELD: Final = "_v"
#: Versions are below this: microseconds until the year 2112. What stands in `_v` and is no integer from 0 to below
#: it counts as no version: see docs/adr/0025-what-counts-as-a-version.md.
VERSION_END: Final = 1 << 52

#: What reads whatever others have written: a date that no datetime can hold; and a string that is no UTF-8: lone
#: surrogates stand for its bytes, so that no other string is the same.
RAW_OPTIONS: CodecOptions[RawBSONDocument] = CodecOptions(
    document_class=RawBSONDocument,
    datetime_conversion=DatetimeConversion.DATETIME_MS,
    unicode_decode_error_handler="surrogateescape",
)

_LENGTH: Final = Struct("<I")
_NAME: Final = VERSION_FIELD.encode()
_NAME_END: Final = _NAME + b"\0"
#: The bytes before a version in a document, and the bytes of both.
VERSION_START: Final = b"\x12" + _NAME_END
VERSION_BYTES: Final = len(VERSION_START) + 8
#: The int64 and the null byte that ends the document.
_VERSION_AND_END: Final = Struct("<qx")


def append_version(body: bytes, version: int) -> bytes:
    """Return a document with its version.

    Args:
        body: A BSON document without a field `_v`.
        version: 0 to 2**63 - 1.

    Returns:
        The same document with the int64 `_v` as its last field.
    """
    return b"".join(
        (
            _LENGTH.pack(len(body) + VERSION_BYTES),
            body[4:-1],
            VERSION_START,
            _VERSION_AND_END.pack(version),
        )
    )


def split_version(raw: bytes | memoryview) -> tuple[bytes, int]:
    """Take a document from MongoDB apart.

    Args:
        raw: A BSON document, with or without a field `_v`, wherever that is, and however often other hands put it
            there. Any buffer: PyMongo's `RawBSONDocument.raw` is a memoryview from 4,096 bytes on.

    Returns:
        The document without its top-level `_v`, as bytes, and the version that stands in the first one: 0 where
        there is none, or where other hands made it something that counts as no version, see `version_of`.

    Raises:
        ValueError: An element has a type that BSON does not know.
    """
    body, version = _without_version(bytes(raw))
    if _NAME_END in body and element(body, _NAME) is not None:
        body = without(body, [_NAME])  # all of them in one walk: there may be hundreds of thousands
    return body, version


def version_of(value: object) -> int:
    """Return the version that a value of `_v` counts as: itself, if it is an integer below `VERSION_END`, else 0.

    Whatever else other hands wrote there is no version, and the next write replaces it: a double, a string, a
    Decimal128, a negative number, or one that no clock could have come to.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < VERSION_END:
        return int(value)
    return 0


def _without_version(raw: bytes) -> tuple[bytes, int]:
    """The document without its first `_v`, or the very same object where there is none; and the version."""
    if _NAME_END not in raw:
        return raw, 0
    # The end of the document may look like a version and yet be the end of a string, of a binary or of a
    # longer name. Only a walk from the front tells.
    found = element(raw, _NAME)
    if found is None:
        return raw, 0
    kind, start, end = found
    begin = start - len(VERSION_START)
    body = _LENGTH.pack(len(raw) - end + begin) + raw[4:begin] + raw[end:]
    return body, _version(kind, raw[start:end])


def first_element(raw: bytes) -> bytes:
    """Return the document that has only the first element of another.

    Args:
        raw: A BSON document with at least one element.

    Raises:
        ValueError: The element has a type that BSON does not know.
    """
    _, (_, _, end) = next(elements(raw))
    return _LENGTH.pack(end + 1) + raw[4:end] + b"\0"


def etag(body: bytes) -> str:
    """Return the ETag of a body: 32 hexadecimal digits, the same for the same bytes."""
    return blake2b(body, digest_size=16).hexdigest()


def etag_of(parts: Iterable[bytes]) -> str:
    """Return the ETag of the body that has these parts."""
    found = blake2b(digest_size=16)
    for part in parts:
        found.update(part)
    return found.hexdigest()


def _version(kind: int, value: bytes) -> int:
    return version_of(int.from_bytes(value, "little", signed=True)) if kind in {INT32, INT64} else 0
