"""Documents and dead letters that stand in another partition than their own, where nobody looks for them.

A process that takes Redis to be divided in another way has acknowledged or buried them there, or other hands have
moved them. Two partitions share no atomic step: so each is taken over at home first, and then forgotten where it
stood. Whoever dies in between leaves both, and the next one finds the same version at home.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from writebehind.documents.entry import BODY_AT, VERSION_DIGITS
from writebehind.redis.keys import Layout, partition_keys
from writebehind.redis.letters import MOST_KEPT, RawLetter, kept_name
from writebehind.redis.pending import HINT_SLACK_MS, POSTPONED_MS, Hint
from writebehind.redis.scripts import script
from writebehind.redis.wire import Wire

_ADOPT, _ADOPT_LETTER, _LET_GO, _DISCARD = (
    script("adopt"),
    script("adopt_letter"),
    script("let_go"),
    script("discard"),
)


@dataclass(frozen=True, slots=True)
class Adopted:
    """A document that was taken over at home.

    Attributes:
        member: the document.
        value: its entry; b'' where only the mark of being pending had stood elsewhere.
        is_pending: whether it is pending at home; else there is a later write, or the same one.
        hint: the flush task that the caller must enqueue, if any.
    """

    member: str
    value: bytes
    is_pending: bool
    hint: Hint | None


class Misplaced:
    """Documents and letters in the wrong partition of one Redis. Safe to share between threads."""

    def __init__(self, wire: Wire, layout: Layout, *, hint_life_ms: int) -> None:
        """Bind it to a server; see `Store` for the arguments."""
        self._wire = wire
        self._layout = layout
        self._hint_life_ms = hint_life_ms

    def is_at_home(self, partition: int, member: str) -> bool:
        """Whether a document belongs to a partition."""
        return self._layout.number(member) == partition

    def away(self, partition: int, members: Sequence[str]) -> list[str]:
        """Those of a partition's members that belong to others."""
        number = self._layout.view.number
        return [one for one in members if number(one) != partition]

    def bring_home(self, partition: int, member: str) -> Adopted:
        """Take a document over at home that stands in another partition, pending or not, and forget it there.

        Raises:
            RedisUnavailableError: Redis does not answer; it stands in both, or where it stood.
        """
        there, home = partition_keys(partition), self._layout.of(member)
        value, score = self._wire.calls(
            (("GET", there.entry(member)), ("ZSCORE", there.pending, member)),
        )
        value = value or b""
        times_ms = (self._hint_life_ms, HINT_SLACK_MS)
        is_pending, ticket = self._wire.run(
            _ADOPT, home.of_commit(member), (member, value, *times_ms, MOST_KEPT, "" if score is None else score)
        )
        self._wire.run(
            _LET_GO,
            (there.entry(member), there.pending, there.load(member), there.sent, there.counts, there.traces),
            (member, value[:BODY_AT]),
        )
        hint = Hint(self._layout.number(member), ticket.decode(), 0) if ticket else None
        return Adopted(member, value, bool(is_pending), hint)

    def put_off(self, partition: int, members: Sequence[str]) -> None:
        """Let members that stand in a partition be due there later: their home cannot be reached now."""
        if members:
            of = partition_keys(partition)
            at_ms = self._wire.now_ms(of.pending) + POSTPONED_MS
            self._wire.call("ZADD", of.pending, "XX", *(part for one in members for part in (at_ms, one)))

    def bring_letter_home(self, partition: int, letter: RawLetter) -> Adopted | None:
        """Take a dead letter over at home; the document that is tried again there, if its entry was its document.

        Raises:
            RedisUnavailableError: as `bring_home`.
        """
        there, member = partition_keys(partition), letter.member
        raw, entry, kept = self._wire.calls(
            (
                ("HGET", there.dead, letter.name),
                ("EXISTS", there.entry(member)),
                ("HGET", there.kept(member), letter.kept_digits),
            )
        )
        if raw is None:
            return None
        if letter.is_kept:
            self._adopt_letter(RawLetter(member, letter.name, raw), letter.kept_digits, kept or b"")
        elif not entry and (version := raw[:VERSION_DIGITS]).isdigit():
            # That was the only place of its document: reconciling lets the letter say so.
            digits = version.decode()
            self._adopt_letter(RawLetter(member, kept_name(member, digits), raw), digits, b"")
        adopted = None if letter.is_kept or not entry else self.bring_home(partition, member)
        keys_of = (there.entry(member), there.dead, there.dead_counts, there.load(member))
        self._wire.run(
            _DISCARD,
            (*keys_of, there.kept(member), there.crowded, there.counts, there.fates),
            (member, letter.name, raw, MOST_KEPT, ""),
        )
        return adopted

    def _adopt_letter(self, letter: RawLetter, digits: str, kept: bytes) -> None:
        home, member = self._layout.of(letter.member), letter.member
        self._wire.run(
            _ADOPT_LETTER,
            (home.dead, home.dead_counts, home.kept(member), home.crowded, home.fates),
            (member, letter.name, digits, letter.value, kept, MOST_KEPT),
        )

    def lasting(self, partition: int, members: Sequence[str]) -> list[str]:
        """Those of the members whose entries in a partition nobody else has, and no letter there: without TTL."""
        of = partition_keys(partition)
        commands = [one for name in members for one in (("PTTL", of.entry(name)), ("HEXISTS", of.dead, name))]
        answers = iter(self._wire.calls(commands))
        found = zip(members, answers, answers, strict=True)
        return [member for member, ttl_ms, is_dead in found if ttl_ms == -1 and not is_dead]
