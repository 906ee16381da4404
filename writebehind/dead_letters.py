"""Dead letters: documents that MongoDB refuses. Nothing of them is lost, and an operator decides."""

from __future__ import annotations

import re
import time
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import orjson

from writebehind import codec, mongo_errors
from writebehind.connections import script
from writebehind.entry import Entry, Kind
from writebehind.errors import DocumentNotFoundError, RequestError, UnreadableDocumentError
from writebehind.ids import DocumentId
from writebehind.keys import partition_keys
from writebehind.store import HINT_LIFE_MS, Hint, HintSink, Store
from writebehind.vitals import added_up

#: Letters that are read, replayed or discarded in one go.
SLICE = 200
#: Letters that one command reads: each may have a document of its own.
SCANNED = 20
#: Where a page ends before it is full: bytes of letters and documents, and letters that were looked at.
MOST_PAGE_BYTES, MOST_LOOKED_AT = 8 << 20, 20_000
#: No cursor of a scan in Redis is above this, and none of ours has more characters.
_LAST_PLACE, _LONGEST_CURSOR = (1 << 64) - 1, 2_000

_PLACE = re.compile(r"0|[1-9][0-9]{0,19}", re.ASCII)

_REPLAY, _DISCARD = script("replay"), script("discard")


class Reason(StrEnum):
    """Why a document is dead."""

    REFUSED = "refused"
    """MongoDB will not take it: a unique index, a validator, its size."""
    CONFLICT = "conflict"
    """MongoDB has a newer version, of which Redis knows nothing: it has lost a write, as in a failover."""
    LOST = "lost"
    """It was pending, but its entry is gone: somebody deleted or evicted it in Redis."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter.

    Attributes:
        member: the document's name in Redis.
        reason: why it is dead; `code` and `message` are MongoDB's.
        version: that was refused, in microseconds: the time at which it was acknowledged. 0 where it is unknown.
        kind: what was to be written: a document or its deletion.
        attempts: how often MongoDB was asked.
        failed_at: seconds since the epoch.
        body: BSON, where it stands in the letter because it has no other place; b'' elsewhere.
    """

    member: str
    reason: Reason
    code: int
    message: str
    version: int
    kind: Kind
    attempts: int
    failed_at: float
    body: bytes = b""

    @property
    def id(self) -> DocumentId:
        """The document."""
        return DocumentId.from_member(self.member)

    @classmethod
    def lost(cls, member: str) -> DeadLetter:
        """The letter of a document that was pending, and whose entry is gone or unreadable."""
        message = "the entry was deleted, evicted or made unreadable in Redis"
        return cls(member, Reason.LOST, 0, message, 0, Kind.ABSENT, 0, time.time())

    def dump(self) -> bytes:
        """The letter as it stands in Redis."""
        return orjson.dumps(asdict(self) | {"body": b64encode(self.body).decode()})

    @classmethod
    def parse(cls, value: bytes) -> DeadLetter:
        """Read what `dump` wrote."""
        fields = orjson.loads(value)
        fields |= {
            "reason": Reason(fields["reason"]),
            "kind": Kind(fields["kind"]),
            "body": b64decode(fields["body"]),
        }
        return cls(**fields)

    def as_dict(self) -> dict[str, Any]:
        """For operators: all but the body."""
        return {
            "collection": self.id.collection,
            "id": self.id.text,
            "reason": self.reason.value,
            "code": self.code,
            "code_name": mongo_errors.name_of(self.code),
            "message": self.message,
            "operation": "put" if self.kind is Kind.DOCUMENT else "delete",
            "version": self.version,
            "acknowledged_at": self.version / 1_000_000,
            "failed_at": self.failed_at,
            "attempts": self.attempts,
        }


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters; `None` is any. Times are of the failure, in seconds since the epoch."""

    collection: str | None = None
    reason: str | None = None
    code: int | None = None
    after: float | None = None
    before: float | None = None

    def fits(self, letter: DeadLetter) -> bool:
        """Whether a letter is meant."""
        return (
            (self.collection is None or letter.member.startswith(f"{self.collection}/"))
            and (self.reason is None or letter.reason == self.reason)
            and (self.code is None or letter.code == self.code)
            and (self.after is None or letter.failed_at >= self.after)
            and (self.before is None or letter.failed_at < self.before)
        )


@dataclass(frozen=True, slots=True)
class Found:
    """A dead letter as it was found: `raw` is what must still stand in Redis when it is replayed or discarded."""

    letter: DeadLetter
    raw: bytes

    def as_json(self) -> bytes:
        """The letter with its document: in Extended JSON, and exactly as BSON in base64.

        Both are `null` for a deletion, or where the document is lost; the former also where it cannot be shown.
        """
        body = self.letter.body
        try:
            document = orjson.Fragment(codec.to_json(body)) if body else None
        except UnreadableDocumentError:
            document = None
        exactly = b64encode(body).decode() if body else None
        return orjson.dumps(self.letter.as_dict() | {"document": document, "bson": exactly})


@dataclass(frozen=True, slots=True)
class Page:
    """Some dead letters, and where the next begin: '' after the last."""

    letters: list[Found]
    cursor: str


class DeadLetters:
    """The dead letters of one installation. Safe to share between threads."""

    def __init__(self, store: Store, hints: HintSink) -> None:
        """Join a store and the way to ask for flush tasks."""
        self._store = store
        self._hints = hints

    def count(self) -> int:
        """How many there are."""
        return sum(one.dead for one in self._store.watch.backlog())

    def by_collection(self) -> dict[str, int]:
        """How many there are of each collection that has any."""
        commands = [("HGETALL", partition_keys(one).dead_counts) for one in range(self._store.partitions)]
        return added_up(self._store.wire.calls(commands))

    def page(self, wanted: Filter, *, cursor: str = "", limit: int = SLICE, bodies: bool = True) -> Page:
        """Up to `limit` letters, in no particular order; without `bodies` only those that stand in the letters.

        A letter that stays while others come and go is on one page at least. A page may end early, even empty,
        so that neither its bytes nor the work for it grow with what there is: only its cursor says that it is
        the last.

        Raises:
            RequestError: the cursor is none that an earlier page had.
        """
        partition, at, last = _parse_cursor(cursor, self._store.partitions)
        found: list[Found] = []
        size = looked_at = 0
        while partition < self._store.partitions:
            after, chunk = self._scan(partition, at)
            looked_at += len(chunk)
            if last in (members := [one.letter.member for one in chunk]):
                chunk = chunk[members.index(last) + 1 :]
            fitting = [one for one in chunk if wanted.fits(one.letter)]
            for one in self._with_bodies(fitting) if bodies else fitting:
                found.append(one)
                size += len(one.raw) + len(one.letter.body)
                if len(found) == limit or size >= MOST_PAGE_BYTES:
                    return Page(found, _cursor(partition, at, one.letter.member))
            partition, at, last = (partition, after, "") if after != "0" else (partition + 1, "0", "")
            if looked_at >= MOST_LOOKED_AT and partition < self._store.partitions:
                return Page(found, _cursor(partition, at, ""))
        return Page(found, "")

    def pages(
        self, wanted: Filter, *, cursor: str = "", limit: int = SLICE, bodies: bool = True
    ) -> Iterator[Page]:
        """Every letter that is meant, in pages; what comes meanwhile may be among them.

        Raises:
            RequestError: as `page`.
        """
        while True:
            page = self.page(wanted, cursor=cursor, limit=limit, bodies=bodies)
            yield page
            if not (cursor := page.cursor):
                return

    def all(self, wanted: Filter) -> Iterator[Found]:
        """Every letter that is meant; what comes meanwhile may be among them."""
        for page in self.pages(wanted):
            yield from page.letters

    def show(self, document_id: DocumentId) -> Found:
        """One letter.

        Raises:
            DocumentNotFoundError: the document is not dead.
        """
        of = partition_keys(self._store.partition_of(document_id.member))
        raw = self._store.wire.call("HGET", of.dead, document_id.member)
        if raw is None:
            raise DocumentNotFoundError(f"{document_id.collection}/{document_id.text} is no dead letter")
        return self._with_bodies([Found(DeadLetter.parse(raw), raw)])[0]

    def replay(self, letters: Iterable[Found], *, conflicts: bool = False) -> dict[str, int]:
        """Try to persist documents once more.

        Args:
            letters: A refused version is tried again as it is.
            conflicts: whether letters of conflicts are meant too. There MongoDB has a newer version than the
                letter's: replaying makes the letter's document the newest, in Redis at once and in MongoDB soon.

        Returns:
            The version of each member that is pending again. Letters that have changed since they were read, and
            lost ones, of which nothing is there to be tried, are left out.
        """
        left_out = {Reason.LOST} if conflicts else {Reason.LOST, Reason.CONFLICT}
        versions: dict[str, int] = {}
        for partition, some in self._by_partition(letters):
            of = partition_keys(partition)
            calls = [
                (
                    (
                        of.entry(one.letter.member),
                        of.pending,
                        of.dead,
                        of.dead_counts,
                        of.scheduled,
                        of.clock,
                        of.load(one.letter.member),
                        of.deleted,
                    ),
                    (one.letter.member, one.raw, _digits(one.letter), _payload(one.letter), HINT_LIFE_MS),
                )
                for one in some
                if one.letter.reason not in left_out
            ]
            answers = self._store.wire.run_many(_REPLAY, calls) if calls else []
            for (_, arguments), (status, version, ticket) in zip(calls, answers, strict=True):
                if status == b"ok":
                    versions[arguments[0]] = int(version)
                if ticket:
                    self._hints(Hint(partition, ticket.decode(), 0))
        return versions

    def discard(self, letters: Iterable[Found]) -> int:
        """Forget letters, for good: readers see what MongoDB has from then on. How many there were."""
        discarded = 0
        for partition, some in self._by_partition(letters):
            of = partition_keys(partition)
            calls = [
                (
                    (of.entry(one.letter.member), of.dead, of.dead_counts, of.load(one.letter.member)),
                    (one.letter.member, one.raw, _digits(one.letter)),
                )
                for one in some
            ]
            discarded += sum(self._store.wire.run_many(_DISCARD, calls))
        return discarded

    def _scan(self, partition: int, at: str) -> tuple[str, list[Found]]:
        after, flat = self._store.wire.call("HSCAN", partition_keys(partition).dead, at, "COUNT", SCANNED)
        return after.decode(), [Found(DeadLetter.parse(raw), raw) for raw in flat[1::2]]

    def _with_bodies(self, found: Sequence[Found]) -> list[Found]:
        """The letters with their bodies, which stand in the entries of all but conflicts."""
        entries = self._store.get_many([one.letter.member for one in found]) if found else {}
        return [
            replace(one, letter=replace(one.letter, body=one.letter.body or _body(one.letter, entries)))
            for one in found
        ]

    def _by_partition(self, letters: Iterable[Found]) -> Iterator[tuple[int, list[Found]]]:
        by_partition: dict[int, list[Found]] = {}
        for one in letters:
            by_partition.setdefault(self._store.partition_of(one.letter.member), []).append(one)
        yield from by_partition.items()


def _body(letter: DeadLetter, entries: dict[str, Entry]) -> bytes:
    entry = entries.get(letter.member)
    return entry.body if entry is not None and entry.version == letter.version else b""


def _digits(letter: DeadLetter) -> str:
    return f"{letter.version:016d}" if letter.version else ""


def _payload(letter: DeadLetter) -> bytes:
    """What becomes the newest entry: for a conflict only, as otherwise the entry is still there."""
    if letter.reason is not Reason.CONFLICT:
        return b""
    if letter.kind is Kind.DOCUMENT:
        return Entry.loaded(letter.body, 0).payload
    return letter.kind.value.encode()


def _cursor(partition: int, at: str, last: str) -> str:
    return urlsafe_b64encode(orjson.dumps([partition, at, last])).decode()


def _parse_cursor(cursor: str, partitions: int) -> tuple[int, str, str]:
    """The partition, the place in the scan of it, and the letter in what is found there after which to go on.

    Raises:
        RequestError: it is no cursor of a page, or leads nowhere.
    """
    if not cursor:
        return 0, "0", ""
    try:
        place = orjson.loads(b64decode(cursor, b"-_", validate=True)) if len(cursor) <= _LONGEST_CURSOR else None
    except ValueError:
        place = None
    match place:
        case [int() as partition, str() as at, str() as last] if (
            not isinstance(partition, bool)
            and 0 <= partition < partitions
            and _PLACE.fullmatch(at)
            and int(at) <= _LAST_PLACE
        ):
            return partition, at, last
    raise RequestError("the cursor is none that an earlier page had: begin without one")
