"""Documents by a unique field: an alias leads to the id, and the document is seen to carry the value.

An alias may mislead, and costs a look at MongoDB then. So a changed value needs no invalidation, and an alias may
stand in another partition than its document, although no step can change both at once.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from uuid import uuid4

from bson import Binary, ObjectId
from bson.binary import UUID_SUBTYPE, UuidRepresentation
from bson.raw_bson import RawBSONDocument

from writebehind.connections import script
from writebehind.entry import ABSENT, Entry
from writebehind.errors import InvalidIdError, MongoUnavailableError, RedisUnavailableError, RequestError
from writebehind.freshness import lifetime_ms
from writebehind.ids import MAX_ID_BYTES, DocumentId, Id, read_id
from writebehind.keys import partition_keys
from writebehind.reader import WAIT_FROM_S, WAIT_TO_S, Read, Reader, Source
from writebehind.settings import CollectionSettings, LookupType
from writebehind.sink import Sink
from writebehind.store import Store

#: What values of type string must match: anything, as they are not part of a path.
_ANY_TEXT = r"(?s:.+)"
#: Where an alias leads that leads to no document.
_NOWHERE = b""
#: How long an alias may live on that nobody let expire, ms.
DANGLING_MS = 60_000
#: Hexadecimal digits of the ETag that an alias's value begins with.
_ETAG_DIGITS = 32

_GET, _SET, _FILL = script("alias_get"), script("alias_set"), script("alias_fill")
_EXPIRE, _DROP, _ABANDON = script("alias_expire"), script("alias_drop"), script("abandon")


@dataclass(frozen=True, slots=True)
class Alias:
    """One value of one field: `name` is `<collection>/<field>=<tagged value>`."""

    collection: str
    field: str
    value: object
    name: str

    @classmethod
    def of(cls, collection: str, field: str, value: Id) -> Alias:
        """The alias for a native value."""
        tagged = DocumentId.of(collection, value)
        return cls(collection, field, tagged.value, f"{collection}/{field}={tagged.member.partition('/')[2]}")


def target(member: str, entry: Entry) -> str:
    """Where an alias leads: to this state of a document, so that only its own settling gives the alias a TTL."""
    return entry.etag + member


def member_of(leads: bytes) -> str:
    """The document that an alias leads to."""
    return leads[_ETAG_DIGITS:].decode()


def aliases_of(collection: str, body: bytes, fields: Mapping[str, LookupType]) -> list[Alias]:
    """The aliases of a document, by the fields that it can be looked up by; values of other types have none."""
    document, found = RawBSONDocument(body), []
    for field, kind in fields.items():
        value: Any = document
        for name in field.split("."):
            value = value.get(name) if isinstance(value, RawBSONDocument) else None
        native = _native(value, kind)
        if native is not None:
            found.append(Alias.of(collection, field, native))
    return found


def _native(value: object, kind: LookupType) -> Id | None:
    match kind:
        case "string" if type(value) is str and 0 < len(value.encode(errors="replace")) <= MAX_ID_BYTES:
            return value
        case "int" if isinstance(value, int) and not isinstance(value, bool):
            return value
        case "objectid" if isinstance(value, ObjectId):
            return value
        case "uuid" if isinstance(value, Binary) and (value.subtype, len(value)) == (UUID_SUBTYPE, 16):
            return value.as_uuid(UuidRepresentation.STANDARD)
    return None


class Lookups:
    """Finds documents by the fields that collections list in `lookup`. Safe to share between threads."""

    def __init__(self, store: Store, sink: Sink, reader: Reader, *, load_timeout_ms: int) -> None:
        """Join the parts; `load_timeout_ms` is the life of the right to fill an alias."""
        self._store = store
        self._sink = sink
        self._reader = reader
        self._load_timeout_ms = load_timeout_ms

    # Reading ----------------------------------------------------------------------------------------

    def alias(self, collection: str, settings: CollectionSettings, field: str, text: str) -> Alias:
        """What a caller looks for.

        Raises:
            RequestError: the collection cannot be looked up by this field, or the text is no value of its type.
        """
        kind = settings.lookup.get(field)
        if kind is None:
            offered = ", ".join(settings.lookup) or "none: list it under lookup in the collection's settings"
            raise RequestError(f"{collection} cannot be looked up by {field[:120]!r}; fields: {offered}")
        try:
            return Alias.of(collection, field, read_id(text, kind, _ANY_TEXT))
        except InvalidIdError as error:
            raise RequestError(f"{field} takes a value of type {kind}, of up to {MAX_ID_BYTES} bytes") from error

    def find(self, alias: Alias, settings: CollectionSettings) -> tuple[DocumentId | None, Read]:
        """The document that carries the value, as it was last acknowledged; `None` and `ABSENT` if none does.

        Raises:
            MongoUnavailableError: Redis does not know, and MongoDB does not answer.
            RedisUnavailableError: Redis does not answer, and the collection's settings do not allow to bypass it.
        """
        try:
            return self._find(alias, settings)
        except RedisUnavailableError:
            if not settings.bypass:
                raise
            found = self._sink.find_by(alias.collection, alias.field, alias.value)
            return found[0], Read(found[1], Source.BYPASS)

    def _find(self, alias: Alias, settings: CollectionSettings) -> tuple[DocumentId | None, Read]:
        leads = self._store.wire.call("GET", self._keys(alias)[0])
        misled = None
        if leads is not None:
            found = self._follow(alias, settings, leads, Source.HIT)
            if found is not None:
                return found
            misled = leads
        return self._lead(alias, settings, misled)

    def _lead(
        self, alias: Alias, settings: CollectionSettings, misled: bytes | None
    ) -> tuple[DocumentId | None, Read]:
        """Put an alias right that is missing or misleads; one reader of all asks MongoDB."""
        deadline = time.monotonic() + self._load_timeout_ms / 1000
        token, step, source = uuid4().hex, WAIT_FROM_S, Source.HIT
        while time.monotonic() < deadline:
            answer = self._store.wire.run(_GET, self._keys(alias), (token, self._load_timeout_ms, misled or b"-"))
            if answer[0] == b"alias":
                found = self._follow(alias, settings, answer[1], source)
                if found is not None:
                    return found
                misled = answer[1]
            elif answer[0] == b"load":
                found = self._load(alias, settings, token)
                if found is not None:
                    return found
            else:
                source = Source.COLLAPSED
                time.sleep(step * random.uniform(0.5, 1))  # noqa: S311 - no secret
                step = min(step * 2, WAIT_TO_S)
        # Whoever had the right to ask has not come back, or writes came in between again and again.
        document_id, _ = self._sink.find_by(alias.collection, alias.field, alias.value)
        return self._verified(alias, settings, document_id, Source.MISS)

    def _follow(
        self, alias: Alias, settings: CollectionSettings, leads: bytes, source: Source
    ) -> tuple[DocumentId | None, Read] | None:
        """What an alias leads to; `None` where it misleads."""
        if leads == _NOWHERE:
            return None, Read(ABSENT, source)
        document_id = DocumentId.from_member(member_of(leads))
        read = self._reader.get(document_id, settings)
        return (document_id, read) if self._carries(alias, settings, read.entry) else None

    def _load(
        self, alias: Alias, settings: CollectionSettings, token: str
    ) -> tuple[DocumentId | None, Read] | None:
        """Ask MongoDB, and fill the alias; `None` where a write came in between."""
        try:
            document_id, _ = self._sink.find_by(alias.collection, alias.field, alias.value)
            # What MongoDB has may be older than what was acknowledged: the entry decides.
            found = self._verified(alias, settings, document_id, Source.MISS)
        except MongoUnavailableError:
            self._store.wire.run(_ABANDON, self._keys(alias)[1:], (token,))
            raise
        leads = target(found[0].member, found[1].entry) if found[0] else _NOWHERE
        ttl_ms = lifetime_ms(found[1].entry, settings)
        return found if self._store.wire.run(_FILL, self._keys(alias), (token, leads, ttl_ms)) else None

    def _verified(
        self, alias: Alias, settings: CollectionSettings, document_id: DocumentId | None, source: Source
    ) -> tuple[DocumentId | None, Read]:
        if document_id is not None:
            read = self._reader.get(document_id, settings)
            if self._carries(alias, settings, read.entry):
                return document_id, Read(read.entry, source, read.ttl_ms)
        return None, Read(ABSENT, source)

    def _carries(self, alias: Alias, settings: CollectionSettings, entry: Entry) -> bool:
        fields = {alias.field: settings.lookup[alias.field]}
        return entry.exists and alias in aliases_of(alias.collection, entry.body, fields)

    # Writing ----------------------------------------------------------------------------------------

    def before(self, writes: Iterable[tuple[DocumentId, Entry]]) -> dict[str, Entry]:
        """What is cached of documents that are about to be written, by member: for `written`.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        return self._store.get_many([one.member for one, _ in writes])

    def written(
        self,
        writes: Sequence[tuple[DocumentId, Entry]],
        settings: CollectionSettings,
        before: Mapping[str, Entry] = MappingProxyType({}),
    ) -> None:
        """Let aliases lead to documents that were just committed, and those of their former values expire.

        Raises:
            RedisUnavailableError: Redis does not answer. The writes stand, but nobody has been told so yet.
        """
        former = [
            (self._keys(alias)[:1], (target(one.member, before[one.member]), DANGLING_MS))
            for one, entry in writes
            if one.member in before
            for alias in set(_of(one, before[one.member], settings)) - set(_of(one, entry, settings))
        ]
        if former:
            self._store.wire.run_many(_EXPIRE, former)
        calls = [
            (self._keys(alias), (target(one.member, entry),))
            for one, entry in writes
            for alias in _of(one, entry, settings)
        ]
        if calls:
            self._store.wire.run_many(_SET, calls)

    def settled(self, writes: Iterable[tuple[DocumentId, Entry]], settings: CollectionSettings) -> None:
        """Let aliases expire whose documents MongoDB has by now, in one round trip.

        Raises:
            RedisUnavailableError: Redis does not answer; reconciling finds what is left.
        """
        calls = [
            (self._keys(alias)[:1], (target(one.member, entry), lifetime_ms(entry, settings)))
            for one, entry in writes
            for alias in _of(one, entry, settings)
        ]
        if calls:
            self._store.wire.run_many(_EXPIRE, calls)

    def outdated(self, collection: str, bodies: Iterable[bytes], settings: CollectionSettings) -> None:
        """Forget aliases for the values of documents that somebody else has written to MongoDB.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        if settings.lookup:
            self.drop_many([one.name for body in bodies for one in aliases_of(collection, body, settings.lookup)])

    def drop_many(self, names: Sequence[str]) -> list[bool]:
        """Forget aliases by name; false for one without TTL, as MongoDB does not have what it leads to yet.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        calls = [(self._keys_of(name), ()) for name in names]
        return [bool(answer) for answer in self._store.wire.run_many(_DROP, calls)] if calls else []

    def lasting(self, names: Sequence[str]) -> dict[str, bytes]:
        """Where those of these aliases lead that have no TTL, by name.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        keys = [self._keys_of(name)[0] for name in names]
        answers = iter(self._store.wire.calls([one for key in keys for one in (("GET", key), ("PTTL", key))]))
        return {
            name: leads for name, leads, ttl in zip(names, answers, answers, strict=True) if leads and ttl == -1
        }

    def let_expire(self, name: str, leads: bytes) -> bool:
        """Give an alias a TTL, if it still leads there.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        return bool(self._store.wire.run(_EXPIRE, self._keys_of(name)[:1], (leads, DANGLING_MS)))

    def _keys(self, alias: Alias) -> tuple[str, str]:
        return self._keys_of(alias.name)

    def _keys_of(self, name: str) -> tuple[str, str]:
        of = partition_keys(self._store.partition_of(name))
        return of.alias(name), of.alias_load(name)


def _of(document_id: DocumentId, entry: Entry, settings: CollectionSettings) -> Sequence[Alias]:
    return aliases_of(document_id.collection, entry.body, settings.lookup) if entry.exists else ()
