"""Changes in MongoDB: the pipeline's own are told from those of others, which are brought to the cache."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from writebehind.conflicts import Conflict, Conflicts
from writebehind.dead_letters import DeadLetter, Reason
from writebehind.entry import Entry, Kind
from writebehind.ids import DocumentId
from writebehind.keys import partition_keys
from writebehind.lookups import Lookups
from writebehind.queries import Queries
from writebehind.settings import CollectionSettings
from writebehind.sink import Sink
from writebehind.store import Burial, Store

#: Entries that are dropped in one round trip.
SLICE = 500


@dataclass(frozen=True, slots=True)
class Change:
    """One change that MongoDB reports.

    Attributes:
        id: the document.
        operation: `insert`, `update`, `replace` or `delete`.
        after: the document as it was afterwards, or some time later; `None` where there is none or it is not told.
    """

    id: DocumentId
    operation: str
    after: Entry | None = None


@dataclass(slots=True)
class Applied:
    """What came of some changes: how many were our own, entries dropped, and conflicts with what is pending."""

    ours: int = 0
    invalidated: int = 0
    conflicts: int = 0


class _Verdict(Enum):
    OURS = auto()
    OUTSIDE = auto()
    CONFLICT = auto()
    """It is pending, so MongoDB and Redis differ."""
    ASK = auto()
    """Redis has another version, and only what MongoDB has now tells whether it is a newer one."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What Redis has of a document: its entry without the body, whether it is pending, and its last deletion."""

    version: int
    kind: Kind | None
    etag: str
    pending: bool
    deleted: bool

    def is_like(self, entry: Entry) -> bool:
        return (self.version, self.kind, self.etag) == (entry.version, entry.kind, entry.etag)


class Outside:
    """Brings the changes of others to the cache. Safe to share between threads."""

    def __init__(
        self,
        store: Store,
        sink: Sink,
        lookups: Lookups,
        queries: Queries,
        conflicts: Conflicts,
        *,
        settings: Callable[[str], CollectionSettings],
    ) -> None:
        """Join the parts; `settings` are a collection's, by name."""
        self._store = store
        self._sink = sink
        self._lookups = lookups
        self._queries = queries
        self._conflicts = conflicts
        self._settings = settings

    def apply(self, changes: Sequence[Change]) -> Applied:
        """Bring changes to the cache. Doing so again does no harm.

        Raises:
            MongoUnavailableError: MongoDB does not answer.
            RedisUnavailableError: Redis does not answer.
        """
        applied, known = Applied(), self._known([one.id.member for one in changes])
        verdicts = [(one, _judge(one, known[one.id.member])) for one in changes]
        asked = self._found_different([one for one, verdict in verdicts if verdict is _Verdict.ASK], known)
        outside: dict[str, list[Change]] = defaultdict(list)
        for change, verdict in verdicts:
            if verdict is _Verdict.CONFLICT:
                applied.conflicts += 1
                self._resolve(change)
            elif verdict is _Verdict.OUTSIDE or change.id.member in asked:
                outside[change.id.collection].append(change)
            else:
                applied.ours += 1
        for collection, some in outside.items():
            members = list(dict.fromkeys(one.id.member for one in some))
            dropped = self._store.invalidate_many(members)
            had = (known[member].kind is not None for member in members)
            applied.invalidated += sum(one and there for one, there in zip(dropped, had, strict=True))
            self._queries.changed(collection, members)
            self._lookups.outdated(
                collection, [one.after.body for one in some if one.after is not None], self._settings(collection)
            )
        return applied

    def forget(self, collection: str, beat: Callable[[], object]) -> int:
        """Drop every entry and alias that MongoDB may have left behind, or that is being loaded; how many.

        Args:
            collection: whose; '' for all.
            beat: called now and then, as this may take long.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        dropped = 0
        # Tokens first: what is filled before its token is found is there when entries and aliases are looked for.
        for family, drop in (
            ("load", self._store.invalidate_many),
            ("entry", self._store.invalidate_many),
            ("aliasload", self._lookups.drop_many),
            ("alias", self._lookups.drop_many),
        ):
            pattern = f"wb:*:{family}:{collection}{'/' if collection else ''}*"
            cursor = b"0"
            while True:
                cursor, found = self._store.wire.call("SCAN", cursor, "MATCH", pattern, "COUNT", SLICE)
                # wb:{partition}:entry:<member>
                dropped += sum(drop([key.decode().split(":", 3)[3] for key in found]))
                beat()
                if cursor == b"0":
                    break
        self._queries.forget(collection)
        return dropped

    def _known(self, members: Sequence[str]) -> dict[str, _Known]:
        """What Redis has of documents, in one round trip."""
        members = list(dict.fromkeys(members))
        commands = []
        for member in members:
            of = partition_keys(self._store.partition_of(member))
            commands += [
                ("GETRANGE", of.entry(member), 0, 48),
                ("ZSCORE", of.pending, member),
                ("ZSCORE", of.deleted, member),
            ]
        answers = iter(self._store.wire.calls(commands))
        found = {}
        for member, header, due, deleted in zip(members, answers, answers, answers, strict=True):
            entry = Entry.parse(header) if header else None
            found[member] = _Known(
                entry.version if entry else 0,
                entry.kind if entry else None,
                entry.etag if entry else "",
                due is not None,
                deleted is not None,
            )
        return found

    def _found_different(self, changes: Sequence[Change], known: dict[str, _Known]) -> set[str]:
        """Members of which MongoDB has something else than Redis had."""
        by_collection: dict[str, dict[str, DocumentId]] = defaultdict(dict)
        for one in changes:
            by_collection[one.id.collection][one.id.member] = one.id
        return {
            one.member
            for ids in by_collection.values()
            for one, entry in zip(ids.values(), self._sink.find_many(list(ids.values())), strict=True)
            if not (
                known[one.member].is_like(entry) or (known[one.member].kind is Kind.DELETED and not entry.exists)
            )
        }

    def _resolve(self, change: Change) -> None:
        """Note a conflict, and let the collection's policy decide."""
        policy = self._settings(change.id.collection).on_conflict
        ours, _ = self._store.get(change.id.member)
        if ours is None:
            return  # settled and evicted meanwhile
        self._conflicts.note(Conflict(change.id, change.operation, policy, ours, change.after, time.time()))
        if policy == "theirs":
            letter = DeadLetter(
                change.id.member,
                Reason.CONFLICT,
                0,
                f"somebody else has changed it in MongoDB ({change.operation}), and on_conflict is theirs",
                ours.version,
                ours.kind,
                0,
                time.time(),
                ours.body,
            )
            self._queries.changed(change.id.collection, [change.id.member])  # while it is pending
            burial = self._store.bury(change.id.member, ours.version_digits, letter.dump(), drop_entry=True)
            if burial is Burial.BURIED and change.after is not None:
                bodies = [change.after.body]
                self._lookups.outdated(change.id.collection, bodies, self._settings(change.id.collection))


def _judge(change: Change, known: _Known) -> _Verdict:
    """Whose change it is.

    The pipeline replaces and deletes, and never updates; what it replaces carries a version. A writer who puts a
    document back with the version that he read is told by its content; where it is pending he is not, and loses.
    """
    after, deletes = change.after, change.operation == "delete"
    versioned = change.operation != "update" and after is not None and after.version > 0
    if after is not None and known.is_like(after):
        return _Verdict.OURS
    if deletes and (known.kind in {Kind.DELETED, Kind.ABSENT} or (known.pending and known.deleted)):
        return _Verdict.OURS
    if known.pending:
        older = versioned and after is not None and after.version <= known.version
        return _Verdict.OURS if older else _Verdict.CONFLICT
    return _Verdict.ASK if known.kind is not None and (deletes or versioned) else _Verdict.OUTSIDE
