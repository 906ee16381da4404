"""Documents by a unique field: an alias or a claim leads to the id, and the document is seen to carry the value.

An alias is where a value leads as MongoDB has it, and expires. A claim says that a document was given the value,
and stands until MongoDB has that, so that it is found before. Either may mislead, and then costs a look at the
document. So a changed value needs no invalidation, and both may stand in another partition than the document,
although no step can change both at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from bson import ObjectId

from writebehind.documents.elements import BINARY, NO_BSON, OBJECT, OBJECT_ID, STRING, SYMBOL, Element, element
from writebehind.documents.entry import ABSENT, Entry
from writebehind.documents.ids import MAX_ID_BYTES, DocumentId, Id, read_id, whole
from writebehind.documents.large import TakesMuchError
from writebehind.errors import (
    InvalidIdError,
    RedisFullError,
    RedisUnavailableError,
    RequestError,
)
from writebehind.mongodb.sink import Sink
from writebehind.mql.order import number
from writebehind.reading.freshness import lifetime_ms
from writebehind.reading.read import Read, Source
from writebehind.reading.reader import Reader
from writebehind.reading.single_flight import LIVES, Turn, take_turns
from writebehind.redis.derived.aliases import Leads, Noted
from writebehind.redis.reach import is_away, unreached
from writebehind.redis.store import Store
from writebehind.settings.collection import CollectionSettings, LookupType
from writebehind.tracing import spans

#: The pattern of values of type string: anything, as they are not part of a path.
_ANY_TEXT = r"(?s:.+)"
#: Where an alias leads that leads to no document.
_NOWHERE = ""
#: How a UUID begins in BSON: its length, and its subtype.
_UUID_HEAD = b"\x10\0\0\0\x04"
#: The most that a value takes in BSON: a text with its length and its end.
_MOST_BYTES = MAX_ID_BYTES + 5
#: Other documents that may have the same value and are looked at when writes are acknowledged: the answer is a
#: hint, and costs no more.
MOST_LOOKS = 10
#: Documents with one value in MongoDB that a lookup goes through, where no index keeps it to one.
MOST_OTHERS = 20


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


def aliases_of(collection: str, body: bytes, fields: Mapping[str, LookupType]) -> list[Alias]:
    """The aliases of a document, by the fields that it can be looked up by; values of other types have none.

    Numbers have one where they are equal to a 64-bit integer, whatever their type. What is no BSON has none.
    """
    try:
        natives = {field: _native(body, field, kind) for field, kind in fields.items()}
    except NO_BSON:
        return []
    return [Alias.of(collection, field, one) for field, one in natives.items() if one is not None]


def _native(body: bytes, field: str, kind: LookupType) -> Id | None:
    one: Element | None = (OBJECT, 0, len(body))
    for name in field.encode().split(b"."):
        one = element(body, name, one[1]) if one is not None and one[0] == OBJECT else None
    if one is None or one[2] - one[1] > _MOST_BYTES:
        return None
    found, start, end = one
    value = body[start:end]
    match kind:
        case "string" if found in {STRING, SYMBOL}:
            return _text(value[4:-1]) or None
        case "int":
            return whole(number(body, one))
        case "objectid" if found == OBJECT_ID:
            return ObjectId(value)
        case "uuid" if found == BINARY and value[:5] == _UUID_HEAD:
            return UUID(bytes=value[5:])
    return None


def _text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:  # which nobody can ask for
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
        """The alias of the value that a caller looks for.

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
            SpoiledError: what other hands have put there is in the way.
        """
        began = time.perf_counter()
        try:
            document_id, read = self._find(alias, settings)
        except RedisUnavailableError as error:
            if not settings.may_bypass(error):
                raise
            document_id, read = self._bypass(alias, settings)
        # One lookup is one read, however many documents it has looked at.
        self._reader.note(read, alias.collection, began, None if read.source is Source.BYPASS else document_id)
        return document_id, read

    def _find(self, alias: Alias, settings: CollectionSettings) -> tuple[DocumentId | None, Read]:
        self._reader.check()
        leads = self._store.aliases.get(alias.name)
        found = self._follow(alias, settings, leads, Source.HIT)
        if found is None:
            return self._lead(alias, settings)
        document_id, read = found
        lives_ms = read.ttl_ms + settings.grace_ms
        leads_there = document_id is not None and leads.member == document_id.member and leads.without is None
        if leads.member and leads_there and lives_ms > leads.ttl_ms:
            # The entry was read anew since. Its readers by this value shall not miss because they came this way.
            self._store.aliases.extend(alias.name, leads.member, lives_ms=lives_ms)
        return found

    def _lead(self, alias: Alias, settings: CollectionSettings) -> tuple[DocumentId | None, Read]:
        """Put an alias right that is missing or misleads; one reader of all asks MongoDB."""
        state = b""

        def look(token: str, waited: bool) -> tuple[DocumentId | None, Read] | Turn | None:
            nonlocal state
            leased = self._store.aliases.get_or_lease(
                alias.name, token, life_ms=self._load_timeout_ms, state=state
            )
            if leased.leads is not None:
                state = leased.state
                return self._follow(alias, settings, leased.leads, Source.COLLAPSED if waited else Source.HIT)
            return Turn.OURS if leased.may_load else Turn.ANOTHERS

        found = take_turns(
            look,
            lambda token: self._load(alias, settings, token),
            lambda token: self._store.aliases.abandon(alias.name, token),
            until=time.monotonic() + LIVES * self._load_timeout_ms / 1000,
        )
        if found is not None:
            return found
        # Whoever had the right to ask has not come back, or writes came in between again and again.
        document_id, _ = self._sink.find_by(alias.collection, alias.field, alias.value)
        return self._verified(alias, settings, document_id)[0]

    def _follow(
        self,
        alias: Alias,
        settings: CollectionSettings,
        leads: Leads,
        source: Source,
    ) -> tuple[DocumentId | None, Read] | None:
        """The document that carries the value, of those that may; `None` where they cannot tell."""
        nowhere = leads.member == _NOWHERE
        for member in leads.members:
            document_id = DocumentId.from_member(member)
            read = self._reader.look(document_id, settings)
            if self._carries(alias, settings, read.entry):
                return document_id, read
            nowhere |= member == leads.member and read.entry.version == leads.without
        return (None, Read(ABSENT, source)) if nowhere and not leads.are_more else None

    def _load(
        self, alias: Alias, settings: CollectionSettings, token: str
    ) -> tuple[DocumentId | None, Read] | None:
        """Ask MongoDB, and fill the alias; `None` where another one may have got the value meanwhile."""
        with spans.load(alias.collection):
            document_id, _ = self._sink.find_by(alias.collection, alias.field, alias.value)
        # What MongoDB has may be older than what was acknowledged: the entry decides.
        found, without = self._verified(alias, settings, document_id)
        leads = found[0] or document_id
        if found[0] is None and leads and without is None:
            self._store.aliases.abandon(alias.name, token)
            return found
        try:
            ttl_ms = lifetime_ms(found[1].entry, settings)
            filled = self._store.aliases.fill(
                alias.name, token, leads.member if leads else _NOWHERE, ttl_ms=ttl_ms, without=without
            )
        except RedisFullError:  # there is no room for the answer, which is true all the same
            self._store.aliases.abandon(alias.name, token)
            return found
        if filled:
            return found
        # The right is gone: a full Redis evicts it, or a claim has ended it. A claim stays until MongoDB has it.
        leads_now = self._store.aliases.get(alias.name)
        return found if found[0] is not None or not leads_now.members else None

    def _verified(
        self, alias: Alias, settings: CollectionSettings, document_id: DocumentId | None
    ) -> tuple[tuple[DocumentId | None, Read], int | None]:
        """The document that MongoDB has found, if it still has the value; else another one that has it.

        Where none has it any more, and MongoDB no other one, also the version of the entry that is without it.
        """
        nobody = None, Read(ABSENT, Source.MISS)
        if document_id is None:
            return nobody, None
        candidates = [document_id]
        versions = []
        for one in candidates:
            read = self._reader.look(one, settings)
            if self._carries(alias, settings, read.entry):
                stale = read.source is Source.STALE
                return (one, read if stale else replace(read, source=Source.MISS)), None
            versions.append(read.entry.version)
            if one is document_id:  # only now: hardly ever has another one the value, and none has with the index
                candidates += self._others(alias, document_id)
        return nobody, versions[0] if len(versions) == 1 else None

    def _bypass(self, alias: Alias, settings: CollectionSettings) -> tuple[DocumentId | None, Read]:
        """The document that carries the value in MongoDB, which finds others too, such as one with an array."""
        with spans.load(alias.collection):
            document_id, entry = self._sink.find_by(alias.collection, alias.field, alias.value)
        if document_id is not None and self._carries(alias, settings, entry):
            return document_id, Read(entry, Source.BYPASS)
        for one in self._others(alias, document_id) if document_id is not None else ():
            entry = self._sink.find(one)
            if self._carries(alias, settings, entry):
                return one, Read(entry, Source.BYPASS)
        return None, Read(ABSENT, Source.BYPASS)

    def _others(self, alias: Alias, but: DocumentId) -> list[DocumentId]:
        """Other documents that have a value in MongoDB, as there is no unique index, or not any more."""
        found = self._sink.find_holders(alias.collection, alias.field, alias.value, limit=MOST_OTHERS)
        others = [DocumentId.stored(alias.collection, stored_id) for stored_id, _ in found]
        return [one for one in others if one is not None and one.member != but.member]

    def _carries(self, alias: Alias, settings: CollectionSettings, entry: Entry) -> bool:
        fields = {alias.field: settings.lookup[alias.field]}
        return entry.exists and alias in aliases_of(alias.collection, entry.body, fields)

    # Writing ----------------------------------------------------------------------------------------

    def written(
        self, writes: Sequence[tuple[DocumentId, Entry]], settings: CollectionSettings
    ) -> dict[str, dict[str, str]]:
        """Claim the values of documents that were just committed, as entries with their versions.

        One round trip, and another where a document had other values before, a flusher was faster, or another
        document may have the value too.

        Returns:
            By member and field, the id of another document that has the same value as last acknowledged, as far as
            Redis knows: as long as both have it, MongoDB will take one of them only.

        Raises:
            RedisUnavailableError: Redis does not answer. The writes stand, but nobody has been told so yet. Of
                several servers these are needed that have the documents and the values that they have now.
        """
        given = [(one, entry, aliases_in(one, entry, settings)) for one, entry in writes]
        leads, noted = self._store.aliases.claim(
            [(one.member, entry.version, [alias.name for alias in aliases]) for one, entry, aliases in given]
        )
        unreached([None], lambda _: self._release(writes, noted, settings))  # reconciling finds what is left
        shared: dict[str, dict[str, str]] = {}
        looks = MOST_LOOKS
        claimed = ((one, alias) for one, _, aliases in given for alias in aliases)
        for (one, alias), found in zip(claimed, leads, strict=True):
            for member in found.members:
                if member != one.member and looks:
                    looks -= 1
                    if self._has(alias, settings, member):
                        shared.setdefault(one.member, {})[alias.field] = DocumentId.from_member(member).text
                        break
        return shared

    def _has(self, alias: Alias, settings: CollectionSettings, member: str) -> bool:
        """Whether Redis knows that a document has a value; one that is large, unreadable or away has none."""
        try:
            entry, _ = self._store.cache.get(member)
        except TakesMuchError:  # the write that this is about has happened
            return False
        except RedisUnavailableError as error:
            if not is_away(error):
                raise
            return False
        return entry is not None and self._carries(alias, settings, entry)

    def settled(self, writes: Sequence[tuple[DocumentId, Entry]], settings: CollectionSettings) -> None:
        """Take claims back that MongoDB needs no more, as it has these entries, in two round trips.

        Raises:
            RedisUnavailableError: Redis does not answer; reconciling finds what is left.
        """
        noted = self._store.aliases.settled([(one.member, entry.version) for one, entry in writes])
        self._release(writes, noted, settings)

    def gave_way(self, writes: Sequence[tuple[str, int]]) -> None:
        """Take claims back of members up to versions that MongoDB will not have; newer ones stand.

        Raises:
            RedisUnavailableError: Redis does not answer; reconciling finds what is left.
        """
        noted = self._store.aliases.settled(writes)
        self._store.aliases.release((replace(one, stored=b"0"), 0) for one in noted)

    def _release(
        self, writes: Sequence[tuple[DocumentId, Entry]], noted: Sequence[Noted], settings: CollectionSettings
    ) -> None:
        ttls_ms = [lifetime_ms(entry, settings) for _, entry in writes]
        self._store.aliases.release(zip(noted, ttls_ms, strict=True))

    def outdated(self, collection: str, bodies: Iterable[bytes], settings: CollectionSettings) -> None:
        """Forget aliases for the values of documents that somebody else has written to MongoDB.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        if settings.lookup:
            self._store.aliases.drop_many(
                [one.name for body in bodies for one in aliases_of(collection, body, settings.lookup)]
            )


def aliases_in(document_id: DocumentId, entry: Entry, settings: CollectionSettings) -> Sequence[Alias]:
    """The aliases of an entry, by the fields that its collection can be looked up by."""
    if not settings.lookup or not entry.exists:
        return ()
    return aliases_of(document_id.collection, entry.body, settings.lookup)
