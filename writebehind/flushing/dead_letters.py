"""Dead letters: documents that MongoDB refuses. Nothing of them is lost, and an operator decides."""

from __future__ import annotations

import re
from base64 import b64decode, urlsafe_b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import orjson

from writebehind import strict
from writebehind.documents.entry import Entry
from writebehind.documents.ids import DocumentId
from writebehind.errors import DocumentNotFoundError, RedisUnavailableError, RequestError
from writebehind.flushing.dead_letter import DeadLetter, Filter, Found, Reason, digits
from writebehind.mongodb.sink import Sink
from writebehind.plurals import counted
from writebehind.querying.derived import Derived
from writebehind.redis.letters import RawLetter
from writebehind.redis.pending import Hint, HintSink
from writebehind.redis.reach import known, told_away
from writebehind.redis.store import Store
from writebehind.sequences import grouped
from writebehind.settings.collection import CollectionSettings

__all__ = ["DeadLetter", "DeadLetters", "Filter", "Found", "Page", "Reason", "Replayed"]

#: Letters that are read, replayed or discarded in one go.
SLICE = 200
#: Letters that one command reads: each may have a document of its own.
SCANNED = 20
#: Documents that are read together take no more than this, bytes; or there is one.
MOST_TOGETHER_BYTES = 1 << 20
#: Where a page ends before it is full: bytes of letters and documents, and letters that were looked at.
MOST_PAGE_BYTES, MOST_LOOKED_AT = 8 << 20, 20_000
#: No cursor of a scan in Redis is above this, and none of ours has more characters.
_LAST_PLACE, _LONGEST_CURSOR = (1 << 64) - 1, 2_000

_PLACE = re.compile(r"0|[1-9][0-9]{0,19}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Page:
    """Some dead letters, and where the next begin: '' after the last.

    Attributes:
        away: partitions of which it has none, as their server does not answer while others do.
    """

    letters: list[Found]
    cursor: str
    away: Sequence[int] = ()

    def newest_first(self) -> list[Found]:
        """Its letters as a person wants to see them: what has failed last comes first."""
        return sorted(self.letters, key=lambda one: (one.letter.failed_at, one.letter.version), reverse=True)


class Replayed(dict[str, int]):
    """The versions of members that are pending again.

    Attributes:
        left: why other letters are left, and how many: `changed` since they were read; `lost`, so that nothing is
            there to be tried; a `conflict`, which was not asked for; or something `newer` is there.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        super().__init__()
        self.left: Counter[str] = Counter()


class DeadLetters:
    """The dead letters of one installation. Safe to share between threads."""

    def __init__(
        self,
        store: Store,
        hints: HintSink,
        sink: Sink,
        derived: Derived,
        settings: Callable[[str], CollectionSettings],
    ) -> None:
        """Join the parts.

        Args:
            store: where they are.
            hints: where flush tasks are asked for.
            sink: what MongoDB has.
            derived: hears of documents that are pending again, or gave way.
            settings: those of a collection, by name.
        """
        self._store = store
        self._hints = hints
        self._sink = sink
        self._derived = derived
        self._settings = settings

    def count(self) -> int:
        """The number of them, in partitions whose server answers."""
        return sum(one.dead for one in self._store.metrics.backlog_answered())

    def by_collection(self) -> dict[str, int]:
        """The number of them in each collection that has any, in partitions whose server answers."""
        return self._store.letters.counts()

    def page(self, wanted: Filter, *, cursor: str = "", limit: int = SLICE, bodies: bool = True) -> Page:
        """Up to `limit` letters, in no particular order; their documents only with `bodies`.

        A letter that stays while others come and go is on one page at least. A page may end early, even empty,
        so that neither its bytes nor the work for it grow with what there is: only its cursor says that it is
        the last.

        Raises:
            RequestError: the cursor is none that an earlier page had.
        """
        partition, at, last = _parse_cursor(cursor, self._store.partitions)
        found: list[Found] = []
        away: list[int] = []
        size = looked_at = 0
        while partition < self._store.partitions:
            answer = known(self._store, lambda: self._chunk(partition, at), None)  # noqa: B023 - called here
            if answer is None:
                away.append(partition)
                partition, at, last = partition + 1, "0", ""
                continue
            after, chunk = answer
            looked_at += len(chunk)
            if last in (names := [one.raw.name for one in chunk]):
                chunk = chunk[names.index(last) + 1 :]
            fitting = [one for one in chunk if wanted.fits(one.letter)]
            for one in self._each_with_body(fitting) if bodies else fitting:
                found.append(one)
                size += len(one.raw.value) + len(one.letter.body)
                if len(found) == limit or size >= MOST_PAGE_BYTES:
                    return Page(found, _cursor(partition, at, one.raw.name), away)
            partition, at, last = (partition, after, "") if after != "0" else (partition + 1, "0", "")
            if looked_at >= MOST_LOOKED_AT and partition < self._store.partitions:
                return Page(found, _cursor(partition, at, ""), away)
        return Page(found, "", away)

    def _chunk(self, partition: int, at: str) -> tuple[str, list[Found]]:
        """Some letters of a partition, and the cursor of the next: '0' after the last."""
        after, raw = self._store.letters.scan(partition, at, count=SCANNED)
        return after, read_or_mended(self._store, raw)

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
        """Every letter that is meant; what comes meanwhile may be among them.

        Raises:
            RedisUnavailableError: Redis does not answer; or one of several servers does not, after the letters of
                all others.
        """
        away: list[int] = []
        for page in self.pages(wanted):
            yield from page.letters
            away += page.away
        if away:
            raise RedisUnavailableError(told_away(self._store.servers_of(away)))

    def of(self, document_id: DocumentId) -> list[Found]:
        """All letters of one document, the newest first, without their documents."""
        found = read_or_mended(self._store, self._store.letters.of(document_id.member))
        return sorted(found, key=lambda one: one.letter.version, reverse=True)

    def show(self, document_id: DocumentId, version: int | None = None) -> Found:
        """One letter with its document: that of a version, by default the newest.

        Raises:
            DocumentNotFoundError: the document has no such letter.
        """
        found = self.of(document_id)
        meant = _of_version(found, document_id, version)[0]
        others = tuple(one.letter.version for one in found if one.raw != meant.raw)
        return replace(self._with_bodies([meant])[0], others=others)

    def named(self, document_id: DocumentId, version: int | None = None) -> Found:
        """The one letter of a document that a caller names, who need not name a version where there is one only.

        Raises:
            DocumentNotFoundError: the document has no such letter.
            RequestError: it has several.
        """
        found = _of_version(self.of(document_id), document_id, version)
        if len(found) > 1:
            versions = ", ".join(str(one.letter.version) for one in found)
            name = f"{document_id.collection}/{document_id.text}"
            raise RequestError(
                f"{name} has {counted(len(found), 'dead letter')}: say of which version: {versions}"
            )
        return found[0]

    def replay(self, letters: Iterable[Found], *, conflicts: bool = False, only_newest: bool = False) -> Replayed:
        """Try to persist documents once more.

        Args:
            letters: A refused version is tried again as it is.
            conflicts: whether letters of conflicts are meant too. There MongoDB has something else: replaying
                makes the letter's document the newest version, in Redis at once and in MongoDB soon. It never
                goes over a write that MongoDB does not have yet, or refuses.
            only_newest: whether to leave letters of conflicts alone where something newer of the document is
                known: another letter, or a version in MongoDB that came after the letter.

        Returns:
            The version of each member that is pending again, and why the other letters are left as they are.

        Raises:
            MongoUnavailableError: MongoDB has to be asked for its versions, and does not answer.
            RedisUnavailableError: Redis does not answer. Some documents may be pending again.
        """
        strict.flag("conflicts", conflicts)
        strict.flag("only_newest", only_newest)
        done = Replayed()
        for partition, some in self._by_partition(letters):
            tried = self._worth_trying(some, done, conflicts=conflicts, only_newest=only_newest)
            meant = [(one.raw, one.letter.over) for one in tried]
            pending: list[Found] = []
            for one, answer in zip(
                tried, self._store.letters.replay_many(meant, only_newest=only_newest), strict=True
            ):
                if answer.status == "ok":
                    done[one.letter.member] = answer.version
                    pending.append(one)
                else:
                    done.left[answer.status] += 1
                if answer.ticket:
                    self._hints(Hint(partition, answer.ticket, 0))
            self._claim(pending)
        return done

    def _claim(self, replayed: Sequence[Found]) -> None:
        """Let documents that are pending again be found by their unique values, as when they were committed."""
        for collection, some in grouped(replayed, lambda one: one.letter.id.collection).items():
            settings = self._settings(collection)
            if not settings.lookup:
                continue
            for together in self._portions(
                [replace(one, raw=RawLetter.of_entry(one.letter.member)) for one in some]
            ):
                values = self._store.letters.documents([one.raw for one in together])
                entries = zip(together, values, strict=True)
                writes = [(one.letter.id, Entry.shown(value)) for one, value in entries if value]
                self._derived.committed(writes, settings)

    def _worth_trying(
        self, letters: list[Found], done: Replayed, *, conflicts: bool, only_newest: bool
    ) -> list[Found]:
        """Those of them that may be replayed; `done` takes why the others are not."""
        conflicting = [one for one in letters if one.letter.reason is Reason.CONFLICT]
        stored: dict[str, int] = {}
        if conflicting and conflicts and only_newest:
            stored = self._sink.versions([one.letter.id for one in conflicting])
        tried = []
        for one in letters:
            letter = one.letter
            if letter.reason in {Reason.LOST, Reason.DAMAGED}:
                done.left[letter.reason.value] += 1
            elif letter.reason is Reason.CONFLICT and not conflicts:
                done.left["conflict"] += 1
            elif stored.get(letter.member, 0) > max(letter.version, letter.over):
                done.left["newer"] += 1
            else:
                tried.append(one)
        return tried

    def discard(self, letters: Iterable[Found]) -> int:
        """Forget letters, for good: readers see what MongoDB has from then on. How many there were."""
        discarded = 0
        for _, some in self._by_partition(letters):
            answers = self._store.letters.discard_many([one.raw for one in some])
            gone = [one.letter for one, is_gone in zip(some, answers, strict=True) if is_gone and not one.is_kept]
            claiming = [one for one in gone if self._settings(one.id.collection).lookup]
            if claiming:
                self._derived.gave_way([(one.member, one.version) for one in claiming])
            discarded += sum(answers)
        return discarded

    def _each_with_body(self, found: Sequence[Found]) -> Iterator[Found]:
        """The letters with their documents, which are read when their turn comes."""
        for some in self._portions(found):
            yield from self._with_bodies(some)

    def _portions(self, found: Sequence[Found]) -> Iterator[list[Found]]:
        """Letters in their order, as many at a time as have documents of a few MiB in all; or one."""
        some: list[Found] = []
        expected = 0
        for one, size in zip(found, self._store.letters.sizes([one.raw for one in found]), strict=True):
            if some and expected + size > MOST_TOGETHER_BYTES:
                yield some
                some, expected = [], 0
            some.append(one)
            expected += size
        if some:
            yield some

    def _with_bodies(self, found: Sequence[Found]) -> list[Found]:
        """The letters with their documents, which stand beside them or in the entries."""
        values = self._store.letters.documents([one.raw for one in found])
        return [
            replace(one, letter=replace(one.letter, body=_body(one.letter, value)))
            for one, value in zip(found, values, strict=True)
        ]

    def _by_partition(self, letters: Iterable[Found]) -> Iterator[tuple[int, list[Found]]]:
        yield from grouped(letters, lambda one: self._store.partition_of(one.letter.member)).items()


def _body(letter: DeadLetter, value: bytes | None) -> bytes:
    """The document of a letter, from the entry that is there; b'' where that is another one, or none any more."""
    if not value or not value.startswith(digits(letter.version).encode()):
        return b""
    try:
        return Entry.parse(value).body
    except (ValueError, IndexError):  # of other hands
        return b""


def _of_version(found: list[Found], document_id: DocumentId, version: int | None) -> list[Found]:
    name = f"{document_id.collection}/{document_id.text}"
    if not found:
        raise DocumentNotFoundError(f"{name} is no dead letter")
    if version is None:
        return found
    if fitting := [one for one in found if one.letter.version == version]:
        return fitting
    versions = ", ".join(str(one.letter.version) for one in found)
    raise DocumentNotFoundError(f"{name} has no dead letter of version {version}, but of {versions}")


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


def read_or_mended(store: Store, letters: Sequence[RawLetter]) -> list[Found]:
    """The letters; what nobody can read as one is taken out, and reconciling finds the entry that it was of.

    Where it is of a document that is kept, which nobody would find, a new letter takes its place.
    """
    found = []
    for raw in letters:
        one = Found.parse(raw)
        if one is None:
            letter = DeadLetter.unreadable(raw).dump() if raw.is_kept else b""
            if store.letters.mend(raw, letter) and letter:
                one = Found.parse(replace(raw, value=letter))
        if one is not None:
            found.append(one)
    return found
