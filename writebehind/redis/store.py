"""Redis as the protocol sees it: the steps of a write until MongoDB has it, and the parts that hold the rest.

Each file in `lua/` is one atomic step, and has one typed method here or in one of the parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from redis.exceptions import ResponseError

from writebehind.documents.entry import BODY_AT, KIND_AT, Entry
from writebehind.documents.idempotency import IdempotencyKey
from writebehind.errors import ConfigurationError, ForeignRedisError, RedisNotReadyError, RedisUnavailableError
from writebehind.redis import keys
from writebehind.redis.bodies import Bodies
from writebehind.redis.cache import Cache, Loads
from writebehind.redis.commits import Commit, CommitRequest, CommitStatus, commit_answer
from writebehind.redis.confirmation import Confirmation
from writebehind.redis.deletions import Deletions
from writebehind.redis.derived.aliases import Aliases
from writebehind.redis.derived.results import Results
from writebehind.redis.heat import Heat
from writebehind.redis.info import parse_info
from writebehind.redis.inspection import Inspection
from writebehind.redis.keys import Layout, partition_keys
from writebehind.redis.letters import HINT_LIFE_MS, MOST_KEPT, Awaited, Letters
from writebehind.redis.misplaced import Misplaced
from writebehind.redis.pending import HINT_SLACK_MS, Pending
from writebehind.redis.reach import Standing, known
from writebehind.redis.receipts import (
    LIFE_MS,
    MOST,
    Receipt,
    Receipts,
    name_of,
    noted,
)
from writebehind.redis.recent import STOOD, Recent, RecentWrites
from writebehind.redis.recovery import Recovery
from writebehind.redis.refusals import PROBE, refusal
from writebehind.redis.round_trip import RoundTrip, UndecidedError
from writebehind.redis.scripts import script
from writebehind.redis.shared.api_keys import ApiKeys
from writebehind.redis.shared.attendance import Attendance
from writebehind.redis.shared.caps import Caps, CapsRecord
from writebehind.redis.shared.complaints import Complaints
from writebehind.redis.shared.cursor_key import CursorKey
from writebehind.redis.shared.history import HistoryLog
from writebehind.redis.shared.labels import Labels
from writebehind.redis.shared.lease import Lease, Position
from writebehind.redis.shared.load_sample import LoadSample, take
from writebehind.redis.shared.lost_data import LostData
from writebehind.redis.shared.metrics import Journal, Metrics
from writebehind.redis.shared.owner import Owner
from writebehind.redis.shared.partition_count import Division, PartitionCount
from writebehind.redis.shared.pauses import Pauses
from writebehind.redis.shared.record import Record
from writebehind.redis.shared.samples import Samples
from writebehind.redis.shared.spending import Spending
from writebehind.redis.shared.workers import Workers
from writebehind.redis.topology.assigned import Assigned
from writebehind.redis.topology.growing import Growing
from writebehind.redis.topology.rebalancing import Rebalancing
from writebehind.redis.unsettled import Unsettled
from writebehind.redis.wire import Wire, time_ms
from writebehind.sequences import grouped
from writebehind.tracing.written import CONTEXTS_LIVE_MS, MOST_CONTEXTS

T = TypeVar("T")
_COMMIT, _DROP_TOKEN = script("commit"), script("drop_token")


class Store:
    """The state in Redis. Safe to share between threads."""

    def __init__(
        self,
        wire: Wire,
        *,
        database: str,
        partitions: int,
        max_pending: int,
        tombstone_ttl_ms: int,
        longest_delay_ms: int = 60_000,
        lease_ms: int = 30_000,
        hint_life_ms: int = HINT_LIFE_MS,
        recommit_bytes: int = 0,
        receipt_life_ms: int = LIFE_MS,
        most_receipts: int = MOST,
    ) -> None:
        """Bind the steps to a server.

        Args:
            wire: the server.
            database: the MongoDB database whose documents it holds.
            partitions: into how many it is divided.
            max_pending: the cap per partition.
            tombstone_ttl_ms: how long a settled deletion is kept.
            longest_delay_ms: the longest flush delay of any collection. A member that is due later by more than
                that was left behind by a clock that has stepped back.
            lease_ms: how long a flusher owns a partition.
            hint_life_ms: how long a flush task may queue before another is enqueued in its place; 0 in a process
                that sends none. A ticket of it would keep others from sending theirs.
            recommit_bytes: how much of what it has committed is kept until replicas have it.
            receipt_life_ms: how long a write is known by its idempotency key.
            most_receipts: how many such writes of a partition are known.
        """
        self._wire = wire
        self._layout = layout = Layout(partitions)
        self._max_pending = max_pending
        self._hint_life_ms = hint_life_ms
        self.database = database
        self.owner = Record(wire, keys.DATABASE, Owner.parse)
        self.division = PartitionCount(wire, layout)
        self.cursor_key = Record(wire, keys.CURSOR_KEY, CursorKey.parse)
        self.lost_data = LostData(wire, layout, database=database, owner=self.owner)
        self.assigned = Assigned(wire, database)
        self.rebalancing = Rebalancing(wire, self.assigned)
        self.growing = Growing(wire)
        self.unsettled = Unsettled(wire, layout)
        self.pending = Pending(
            wire,
            layout,
            database=database,
            owner=self.owner,
            tombstone_ttl_ms=tombstone_ttl_ms,
            longest_delay_ms=longest_delay_ms,
            lease_ms=lease_ms,
            hint_life_ms=hint_life_ms,
        )
        self.cache = Cache(wire, layout)
        self.bodies = Bodies(wire, layout)
        self.recent = RecentWrites(layout.number, most_bytes=recommit_bytes)
        self.receipts = Receipts(wire, layout, life_ms=receipt_life_ms, most=most_receipts)
        self.recovery = Recovery(wire, layout, hint_life_ms=hint_life_ms)
        self.loads = Loads(wire, layout, tombstone_ttl_ms=tombstone_ttl_ms)
        self.letters = Letters(wire, layout, hint_life_ms=hint_life_ms)
        self.awaited = Awaited(wire, layout)
        self.deletions = Deletions(wire, layout)
        self.misplaced = Misplaced(wire, layout, hint_life_ms=hint_life_ms)
        self.aliases = Aliases(wire, layout)
        self.results = Results(wire, layout)
        self.heat = Heat(wire, layout)
        self.inspection = Inspection(wire, layout)
        self.metrics = Metrics(wire, layout)
        self.workers = Workers(wire)
        self.caps = CapsRecord(wire)
        self.complaints = Complaints(wire)
        self.api_keys = ApiKeys(wire)
        self.pauses = Pauses(wire)
        self.spending = Spending(wire)
        self.journal = Journal(wire)
        self.history = HistoryLog(wire)
        self.samples = Samples(wire)
        self.attendance = Attendance(wire)
        self.labels = Labels(wire)
        self.position = Position(wire)

    @property
    def layout(self) -> Layout:
        """The partitions of documents."""
        return self._layout

    @property
    def partitions(self) -> int:
        """The number of partitions; while it grows, the new one."""
        return self._layout.partitions

    def record_servers(self) -> None:
        """Record what is on servers with names, as far as nobody has: one of them was emptied.

        Raises:
            ForeignRedisError: this process does not fit them.
            RedisNotReadyError: one that may have had some of that does not answer.
            RedisUnavailableError: none answers, or nothing is recorded and one does not answer.
        """
        try:
            if division := known(self._wire, self.division.recorded, None):
                division.check(self.partitions)
            is_recorded = self.assigned.record(self.partitions)
        except ConfigurationError as error:
            raise ForeignRedisError(inner=str(error)) from error
        if not is_recorded:
            raise RedisNotReadyError(
                "a Redis server came back empty, and what it is to have is not known until all servers answer"
            )

    def keep_up(self) -> None:
        """From now on, look at times whether the number of partitions grows, before anything is sent."""
        if not self._wire.names:  # where it does so offline only
            self._wire.keep_up(self._layout, self.division.follow)

    def see_division(self) -> None:
        """Make sure that what is known of the number of partitions is no older than if something were sent."""
        self._wire.see_division()

    @property
    def is_dividing(self) -> bool:
        """Whether their number grows just now, as far as this process knows."""
        return self._layout.view.target > 0

    @property
    def names(self) -> Sequence[str]:
        """The names that the URL gives to servers of their own; empty where it gives none."""
        return self._wire.names

    @property
    def has_several(self) -> bool:
        """Whether Redis is several servers, of which one may be away. Raises as `server_of`."""
        return self._wire.has_several

    def partition_of(self, member: str) -> int:
        """The partition that a member belongs to."""
        return self._layout.number(member)

    def final_partition_of(self, name: str) -> int:
        """The partition of a member or another name; while their number grows, the one that it is coming to."""
        return self._layout.view.final(name)

    def check(self) -> None:
        """Record the database and the number of partitions, or compare them with what is recorded.

        Raises:
            ConfigurationError: this Redis belongs to another database, a `ForeignDatabaseError`; or it is divided
                differently; or that is being changed; or it is other servers than the URL says.
            RedisUnavailableError: Redis does not answer.
        """
        self.assigned.record(self.partitions)
        self.owner.first(Owner(self.database)).check(self.database)
        self.division.first(Division(self.partitions)).check(self.partitions)
        self._own()

    def _own(self) -> None:
        """Record whose the servers with names are, and have those of others taken for away from now on."""
        self.assigned.own()
        self._wire.belongs_to(self.database)

    def check_recorded(self) -> None:
        """`check`, for who only looks: it records nothing. Raises as `check`."""
        self.assigned.check()
        self.check_owner()
        if division := self.division.recorded():
            division.check(self.partitions)

    def check_answered(self) -> None:
        """`check_recorded`, as far as the servers know that answer. Raises as `check`."""
        self.assigned.check()
        known(self._wire, self.check_owner, None)
        if division := known(self._wire, self.division.recorded, None):
            division.check(self.partitions)

    def check_owner(self) -> None:
        """See that no other database is recorded.

        Raises:
            ForeignDatabaseError: one is.
            RedisUnavailableError: Redis does not answer.
        """
        if owner := self.owner.recorded():
            owner.check(self.database)

    def divided_into(self, partitions: int) -> Store:
        """The same Redis, as one that is divided into another number: to look at, and not to write documents."""
        return Store(self._wire, database=self.database, partitions=partitions, max_pending=0, tombstone_ttl_ms=1)

    def lease(self, key: str, life_ms: int, *, needed: bool = True) -> Lease:
        """The lease at a key of `keys`, which nobody has taken yet; `needed` as it says."""
        return Lease(self._wire, key, life_ms, needed=needed)

    def now_ms(self, partition: int | None = None) -> int:
        """The clock that all times of a partition are made of, or those of the whole installation, ms.

        While the server with that of the installation is away, another one's is as good.
        """
        if partition is not None:
            return self._wire.now_ms(partition_keys(partition).pending)
        return known(self._wire, self._wire.now_ms, 0) or max(self.clocks_ms().values())

    def size(self) -> int:
        """The number of keys."""
        return sum(one for (one,) in self._wire.on_each([("DBSIZE",)]).values() if isinstance(one, int))

    def scan(self, cursor: bytes, *, count: int, match: str = "*") -> tuple[bytes, list[bytes]]:
        """About `count` keys from a cursor on, and the cursor of the next: b'0' after the last."""
        return self._wire.scan(cursor, match=match, count=count)

    def facts(self) -> dict[str, Mapping[str, str]]:
        """The description that each server that answers gives of itself, by INFO; empty where that is refused."""
        answers = self._wire.on_each([("INFO",)]).items()
        return {
            name: parse_info(info) if isinstance(info, bytes) else {}
            for name, (info,) in answers
            if not isinstance(info, RedisUnavailableError)
        }

    def configured(self, name: str) -> dict[str, str | None]:
        """A setting of each server that answers; '' for one that it does not have, `None` if it is refused."""
        answers = self._wire.on_each([("CONFIG", "GET", name)]).items()
        return {
            server: None if isinstance(found, ResponseError) else found[1].decode() if found else ""
            for server, (found,) in answers
            if not isinstance(found, RedisUnavailableError)
        }

    def directories(self) -> dict[str, str | None]:
        """The directory of each server that answers; '' for one that was deleted, `None` where it does not say."""
        answers = self._wire.on_each([("CONFIG", "GET", "dir")]).items()
        return {
            server: found[1].decode(errors="replace") if isinstance(found, list) and found else None
            for server, (found,) in answers
            if not isinstance(found, RedisUnavailableError)
        }

    def clocks_ms(self) -> dict[str, int]:
        """The clock of each server that answers, by its name, ms."""
        answers = self._wire.on_each([("TIME",)]).items()
        return {name: time_ms(found) for name, (found,) in answers if isinstance(found, list)}

    def standing(self) -> Standing:
        """The servers that do not answer, or take no writes, while others do.

        Slots that no node of a cluster has are those of a server ''.

        Raises:
            RedisUnavailableError: none answers.
        """
        answers = {name: probed for name, (probed,) in self._wire.on_each([("EVAL", PROBE, 0)]).items()}
        silent = [name for name, probed in answers.items() if isinstance(probed, RedisUnavailableError)]
        refused = {name: words for name, probed in answers.items() if (words := refusal(probed))}
        of = self.servers_of(range(self.partitions)) if silent or refused or len(answers) > 1 else {}
        do_all = len(silent) + len(refused) == len(answers)
        nobody = [""] if "" in of and len(answers) > 1 else []
        return Standing(
            away={name: of.get(name, []) for name in (*silent, *nobody)},
            refusing={} if do_all else {name: of.get(name, []) for name in refused},
            refuses=next(iter(refused.values())) if refused and do_all else "",
        )

    def servers_of(self, partitions: Iterable[int]) -> dict[str, list[int]]:
        """Partitions by the names of the servers that they are on. Raises as `server_of`."""
        return grouped(partitions, self.server_of)

    def server_of(self, partition: int) -> str:
        """The name of the server that a partition is on.

        Raises:
            RedisUnavailableError: that is not known.
        """
        return self._wire.server_of(partition_keys(partition).pending)

    def server_of_member(self, member: str) -> str:
        """The name of the server that a member's partition is on; '' where that is not known."""
        try:
            return self.server_of(self.partition_of(member))
        except RedisUnavailableError:
            return ""

    def load(self, *, probes: bool = False) -> LoadSample:
        """The figures that decide whether more writes can be taken, in two round trips.

        For who tells how Redis is, it also `probes` whether that takes writes.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        owned = self.owner, self.division
        sample = take(self._wire, self._layout, self.database, *owned, pauses=self.pauses, probes=probes)
        if sample.recorded and not sample.misfit:
            self._wire.belongs_to(self.database)
        if sample.may_fail_over:
            self.recent.there_are_replicas()
        return sample

    def tell_caps(self, caps: Caps) -> None:
        """Note the caps that this process applies, if Redis answers: only figures depend on it."""
        with suppress(RedisUnavailableError):
            self.caps.tell(caps)

    def load_recorded(self) -> LoadSample:
        """`load`, for a process that is about to use this Redis: records whose it is where nobody has.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        sample = self.load()
        if sample.recorded:
            return sample
        self.assigned.record(self.partitions)
        owner = self.owner.first(Owner(self.database))
        self.division.first(Division(self.partitions))
        if owner.fits(self.database):
            self._own()
        return self.load()

    def lifetimes_ms(self, keys_of: Sequence[str]) -> list[int]:
        """The TTLs of keys: -1 without one, -2 where there is no key."""
        found: list[int] = self._wire.calls([("PTTL", key) for key in keys_of])
        return found

    def drop_token(self, key: str, *, life_ms: int) -> bool:
        """Delete a token that lives longer than it may."""
        return bool(self._wire.run(_DROP_TOKEN, (key,), (life_ms,)))

    # The write path ---------------------------------------------------------------------------------

    def commit_many(
        self, requests: Sequence[CommitRequest], confirmation: Confirmation | None = None
    ) -> list[Commit]:
        """Acknowledge several writes, in one round trip; each is atomic by itself.

        Args:
            requests: the writes.
            confirmation: what Redis shall see to before it answers. Where it does not in time, commits say
                `BUFFERED`.

        Raises:
            RedisUnavailableError: Redis does not answer; the writes may or may not have happened.
        """
        calls = [self._commit_call(request, confirmation) for request in requests]
        answers, confirmed = self._wire.run_each(_COMMIT, calls, confirmation.commands if confirmation else None)
        if confirmation is None:
            commits = [commit_answer(answer) for answer in answers]
        else:
            commits = [
                commit_answer(answer, *(confirmation.judge(*one) if one else ()))
                for answer, one in zip(answers, confirmed, strict=True)
            ]
        if repeated := self._keep_recent(requests, commits):
            for at, error in zip(repeated, self.keep_repeated([*repeated.values()]), strict=True):
                if error:
                    commits[at] = commits[at]._replace(status=CommitStatus.REFUSED, refusal=error)
        return commits

    def is_direct(self) -> bool:
        """Whether it is known where everything is, so that all it takes is to send commands there."""
        return self._wire.way(keys.COUNTERS) is not None

    def commit_trip(
        self,
        request: CommitRequest,
        conclude: Callable[[Commit], T],
        lost: Callable[[RedisUnavailableError], Any],
    ) -> RoundTrip[T] | None:
        """`commit_many` of one write that waits for no confirmation, in two halves, as `RoundTrip` has them.

        `None` where it may take more than a round trip.
        """

        def decide(answer: list[bytes]) -> T:
            commit = commit_answer(answer)
            if self._keep_recent((request,), (commit,)):
                raise UndecidedError
            return conclude(commit)

        seen = self._layout.view
        trip = self._wire.step_trip(_COMMIT, self._commit_call(request, None), decide, lost)
        return trip if self._layout.view is seen else None  # another thread may have learned of a division

    def keep_repeated(
        self, repeated: Sequence[tuple[Receipt, IdempotencyKey]]
    ) -> list[RedisUnavailableError | None]:
        """Keep what was acknowledged once more as Redis has it by now, where this process does not know it.

        So it stands after a failover too, also where nobody else is left who knows it.

        Returns:
            For each the error of one whose server does not answer: it may not be acknowledged.

        Raises:
            RedisUnavailableError: none answers.
        """
        if not self.recent.is_on:
            return [None] * len(repeated)
        answers = self._wire.exchange([("GET", self.cache.key(receipt.member)) for receipt, _ in repeated])
        for (receipt, key), answer in zip(repeated, answers, strict=True):
            entry = Entry.shown(answer) if isinstance(answer, bytes) else None
            if entry is not None and entry.version >= receipt.version:  # else MongoDB has it, as a rule
                left = _left(receipt, key)
                self.recent.add((Recent(receipt.member, entry.version, entry.payload, STOOD, left),))
        return [one if isinstance(one, RedisUnavailableError) else None for one in answers]

    def _keep_recent(
        self, requests: Sequence[CommitRequest], commits: Sequence[Commit]
    ) -> dict[int, tuple[Receipt, IdempotencyKey]]:
        """Keep what was acknowledged; by their places, repetitions of what has made another document of it."""
        if not self.recent.is_on:
            return {}
        kept, others = [], {}
        for at, (request, commit) in enumerate(zip(requests, commits, strict=True)):
            if commit.status is CommitStatus.OK:
                kept.append(_recent(request, commit))
            elif (receipt := commit.receipt) and request.once:
                if _is_same(request, receipt):
                    left = _left(receipt, request.once.key)
                    kept.append(Recent(request.member, receipt.version, request.payload, STOOD, left))
                else:
                    others[at] = receipt, request.once.key
        self.recent.add(kept)
        return others

    def _commit_call(
        self, request: CommitRequest, confirmation: Confirmation | None
    ) -> tuple[Sequence[str], Sequence[Any]]:
        member, delay_ms = request.member, request.delay_ms
        cap = self._max_pending if request.cap is None else request.cap
        of = self._layout.of(member)
        more_keys: tuple[str, ...] = ()
        more: tuple[Any, ...] = ()
        if request.context or request.once:
            more_keys = (of.traces,)
            more = (request.context, CONTEXTS_LIVE_MS, MOST_CONTEXTS)
        if (once := request.once) is not None:
            more_keys += of.of_receipts
            more += (
                name_of(member, once.key),
                once.key.digest,
                once.answer,
                self.receipts.life_ms,
                *self.receipts.bounds,
                "1" if confirmation else "",
            )
        return (
            (*of.of_commit(member), *more_keys),
            (
                member,
                request.payload,
                request.condition,
                cap,
                delay_ms,
                self._hint_life_ms and delay_ms + self._hint_life_ms,
                HINT_SLACK_MS,
                MOST_KEPT,
                *more,
            ),
        )


def _recent(request: CommitRequest, commit: Commit) -> Recent:
    """A write that was acknowledged, as it may be committed again."""
    if request.once is None:
        return Recent(request.member, commit.version, request.payload)
    receipt = noted(commit.version, commit.previous, request.once)
    name = name_of(request.member, request.once.key)
    return Recent(request.member, commit.version, request.payload, receipts=((name, receipt),))


def _left(receipt: Receipt, key: IdempotencyKey) -> tuple[tuple[str, bytes]]:
    """A receipt as the first of equal requests has left it, with its name."""
    return ((name_of(receipt.member, key), receipt.packed()),)


def _is_same(request: CommitRequest, receipt: Receipt) -> bool:
    """Whether the first of equal requests has made of the document what this one would."""
    etag = request.payload[1 : BODY_AT - KIND_AT]
    return (request.member, etag) == (receipt.member, receipt.etag.encode())
