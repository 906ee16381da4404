"""The keys of requests that reach the library: told apart by what the call was given."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel

from writebehind import strict
from writebehind.documents import codec
from writebehind.documents.idempotency import IdempotencyKey
from writebehind.documents.ids import DocumentId


def request_key(given: object, *parts: object) -> IdempotencyKey | None:
    """The key of a call, whose parts are texts, documents, lists, or a `DocumentId`; a ready one, or none, stays.

    Raises:
        InvalidArgumentError: it is no key.
        InvalidDocumentError: BSON cannot hold what stands in a part.
    """
    if given is None or isinstance(given, IdempotencyKey):
        return given
    return IdempotencyKey.of(strict.text("key", given), [codec.encode({"": _plain(part)}) for part in parts])


def _plain(part: object) -> object:
    match part:
        case DocumentId():
            return part.member
        case BaseModel():
            return _plain(strict.document(part, only_set=True))
        case Mapping():
            return dict(part)
        case list() | tuple():
            return [_plain(one) for one in part]
        case _:
            return part
