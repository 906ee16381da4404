"""MongoDB against the ledger."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import bson
from bson import Binary, Int64

from writebehind.demo.ledger import Expected, Ledger, stored
from writebehind.demo.records import CODEC, STANDARD, Key, Tree

_SHOWN_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A document that is not as it was acknowledged."""

    collection: str
    id: str
    expected: str
    found: str


def compare(ledger: Ledger, found: Iterable[tuple[str, bytes]], raised: int = 0) -> list[Mismatch]:
    """Compare what MongoDB has, collection by BSON document, with what was acknowledged, to the last byte.

    What others wrote must be there as they did where nothing was acknowledged after it.

    Args:
        ledger: what was acknowledged.
        found: what MongoDB has.
        raised: how many times the pipeline says that it has given a pending write the next version, to write it
            once more. The versions may be higher by so many in all.
    """
    mismatches: list[Mismatch] = []
    above: dict[Key, int] = {}
    known, seen = ledger.writes.keys() | ledger.outside.keys(), set[Key]()
    for collection, raw in found:
        document = bson.decode(raw, CODEC)
        key = collection, _text(document["_id"])
        expected = ledger.expected(key) if key in known else None
        if expected is None or key in seen:
            mismatches.append(Mismatch(*key, "nothing: no such document was written", _shown(document)))
            continue
        seen.add(key)
        by = _taken_down(expected, document)
        if (difference := _difference(key, expected, document)) is not None:
            mismatches.append(Mismatch(*key, *difference))
        elif by:
            above[key] = by
    if sum(above.values()) > raised:
        mismatches += [
            Mismatch(*key, f"version {(version := ledger.expected(key).version)}", f"version Int64 {version + by}")
            for key, by in above.items()
        ]
    for key in known - seen:
        expected = ledger.expected(key)
        if expected.document is not None:
            mismatches.append(Mismatch(*key, f"version {expected.version}", "nothing: it is missing"))
    return mismatches + _broken_promises(ledger)


def _broken_promises(ledger: Ledger) -> list[Mismatch]:
    expected = {key: ledger.expected(key) for key in ledger.writes}
    return [
        Mismatch(*key, "writes one after the other", fault)
        for key, one in expected.items()
        for fault in one.faults
    ]


def _taken_down(expected: Expected, found: Tree) -> int:
    """The number by which the version of what is found is higher than it should be; it is taken down by it."""
    version = found.get("_v")
    if expected.document is None or not expected.version or type(version) is not Int64:
        return 0
    found["_v"] = Int64(min(version, expected.version))
    return int(version - found["_v"])


def _difference(key: Key, expected: Expected, found: Tree) -> tuple[str, str] | None:
    """The difference between the expected and the found document."""
    version = found.pop("_v", None)
    if expected.document is None:
        return f"nothing: deleted at version {expected.version}", f"version {version}, {_shown(found)}"
    wanted_version = Int64(expected.version) if expected.version else None
    if version != wanted_version or type(version) is not type(wanted_version):
        return f"version {expected.version}", f"version {_typed(version)}"
    wanted = bson.encode(stored(key, expected.document), codec_options=STANDARD)
    if bson.encode(found, codec_options=CODEC) == wanted:
        return None
    return first_difference(bson.decode(wanted, CODEC), found) or ("the same bytes", "other bytes")


def first_difference(expected: Any, found: Any, path: str = "") -> tuple[str, str] | None:
    """The first place where two values differ, with what is there in each; types and the order of fields count."""
    if type(expected) is type(found) is dict:
        if list(expected) != list(found):
            return f"{path or 'document'} has fields {_shown(list(expected))}", f"fields {_shown(list(found))}"
        pairs: Iterable[tuple[str, Any, Any]] = ((name, expected[name], found[name]) for name in expected)
    elif type(expected) is type(found) is list and len(expected) == len(found):
        pairs = ((str(at), *both) for at, both in enumerate(zip(expected, found, strict=True)))
    elif bson.encode({"": expected}, codec_options=CODEC) == bson.encode({"": found}, codec_options=CODEC):
        return None
    else:
        return f"{path} = {_typed(expected)}", _typed(found)
    inner = (first_difference(one, other, f"{path}.{name}".lstrip(".")) for name, one, other in pairs)
    return next((one for one in inner if one is not None), None)


def _text(native: Any) -> str:
    return str(native.as_uuid()) if isinstance(native, Binary) and native.subtype == 4 else str(native)  # noqa: PLR2004


def _typed(value: Any) -> str:
    return f"{type(value).__name__} {_shown(value)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
