"""Unique values: aliases say which document has one in MongoDB, and claims which document was given one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from writebehind.documents.entry import VERSION_DIGITS
from writebehind.documents.ids import named
from writebehind.redis.connections import Command
from writebehind.redis.keys import Layout
from writebehind.redis.scripts import script
from writebehind.redis.strays import whole
from writebehind.redis.wire import Call, Wire
from writebehind.sequences import pairs

#: Other documents that may have a value, of those that are told of when it is claimed.
MOST_SHARED = 2
#: The newest claims to a value, which are looked at before the others: the first of them is hardly ever wrong.
MOST_FIRST = 10

#: What stands before a member in an alias that leads nowhere, while the entry of that has a version.
_WITHOUT = re.compile(rb"/([0-9]{16})/")

_GET_OR_LEASE_ALIAS, _FILL_DERIVED, _EXTEND_ALIAS = (
    script("get_or_lease_alias"),
    script("fill_derived"),
    script("extend_alias"),
)
_RECORD_CLAIMS, _RELEASE_CLAIM, _ABANDON = script("record_claims"), script("release_claim"), script("abandon")
_CLAIM_VALUE = script("claim_value")


@dataclass(frozen=True, slots=True)
class Claim:
    """A document's claim to a value, by the alias's name: `member` was given it by the write with this version."""

    name: str
    member: str
    version: int


@dataclass(frozen=True, slots=True)
class Leads:
    """Which documents may have a value.

    Attributes:
        claims: those that were given it, the newest first.
        member: the one that MongoDB has it in; '' for none, and `None` where that is not known.
        ttl_ms: how long that is known.
        are_more: whether there are more claims, which are older.
        without: nobody else has it, and not the `member` either while its entry has this version.
    """

    claims: Sequence[str]
    member: str | None
    ttl_ms: int = -1
    are_more: bool = False
    without: int | None = None

    @property
    def members(self) -> list[str]:
        """All of them, each once, the likeliest first."""
        return list(dict.fromkeys([*self.claims, *([self.member] if self.member else [])]))


@dataclass(frozen=True, slots=True)
class LeasedAlias:
    """The answer to a `get_or_lease`: where a value leads, or the right to ask MongoDB, or neither: then wait.

    `state` is to be given with the next one: if nothing has changed by then, the right comes instead.
    """

    leads: Leads | None
    may_load: bool
    state: bytes = b""


@dataclass(frozen=True, slots=True)
class Noted:
    """Values that a document claims no more, by their names.

    Attributes:
        member: the document.
        version: up to which claims are to be released.
        stored: b'1' if MongoDB has that version.
        names: of the values.
    """

    member: str
    version: bytes
    stored: bytes
    names: Sequence[str]


class Aliases:
    """The aliases and claims of one Redis. Safe to share between threads."""

    def __init__(self, wire: Wire, layout: Layout) -> None:
        """Bind them to a server."""
        self._wire = wire
        self._layout = layout

    # Reading ----------------------------------------------------------------------------------------

    def get(self, name: str) -> Leads:
        """The document to which a value leads, in one round trip; of many claims the newest."""
        key, _, claims_key = self._keys(name)
        claims, member, ttl_ms = self._wire.calls(
            (("ZRANGE", claims_key, 0, MOST_FIRST, "REV"), ("GET", key), ("PTTL", key))
        )
        return replace(_leads(claims, member, ttl_ms), are_more=len(claims) > MOST_FIRST)

    def get_or_lease(self, name: str, token: str, *, life_ms: int, state: bytes) -> LeasedAlias:
        """The document to which a value leads, or the right to ask MongoDB, or word that another reader does."""
        answer = self._wire.run(_GET_OR_LEASE_ALIAS, self._keys(name), (token, life_ms, state))
        if answer[0] != b"alias":
            return LeasedAlias(None, may_load=answer[0] == b"load")
        _, state, member, claims = answer
        return LeasedAlias(_leads(claims, member), may_load=False, state=state)

    def fill(self, name: str, token: str, member: str, *, ttl_ms: int, without: int | None = None) -> bool:
        """Note where a value leads as MongoDB has it, '' for nowhere; false where a write came in between.

        It leads nowhere `without` the member as well, as long as the entry of that has this version.

        Raises:
            RedisFullError: there is no room for it.
            RedisUnavailableError: Redis does not answer.
        """
        value = member if without is None else f"/{without:0{VERSION_DIGITS}d}/{member}"
        return bool(self._wire.run(_FILL_DERIVED, self._keys(name)[:2], (token, value, ttl_ms)))

    def abandon(self, name: str, token: str) -> None:
        """Give the right to ask MongoDB back."""
        self._wire.run(_ABANDON, (self._keys(name)[1],), (token,))

    def extend(self, name: str, member: str, *, lives_ms: int) -> None:
        """Let an alias that leads to a member live for so long."""
        self._wire.run(_EXTEND_ALIAS, (self._keys(name)[0],), (member, lives_ms))

    # Writing ----------------------------------------------------------------------------------------

    def claim(self, writes: Sequence[tuple[str, int, Sequence[str]]]) -> tuple[list[Leads], list[Noted]]:
        """Claim values for documents that were just committed, in one round trip.

        Args:
            writes: members, with the versions that were issued and the names of the values.

        Returns:
            For each value, in their order, which documents may have it; and for each write what its document had
            claimed before and does not any more.
        """
        claims: list[Command] = []
        notes: list[Call] = []
        for member, version, names in writes:
            for name in names:
                key, load, claims_key = self._keys(name)
                # As text, which is no longer than its digest with the loading of it, and goes among commands.
                claims.append(("EVAL", _CLAIM_VALUE.source, 1, claims_key, member, version))
                claims.append(("DEL", load))  # what is being asked of MongoDB is older
                claims += [("ZRANGE", claims_key, 0, MOST_SHARED, "REV"), ("GET", key)]
            notes.append(self._note(member, version, names))
        if not notes:
            return [], []
        # First claimed, then noted: a flusher that misses the note has settled before, and the note tells so.
        answers, spent = self._wire.run_many_after(claims, _RECORD_CLAIMS, notes)
        leads = [_leads(*one) for one in zip(answers[2::4], answers[3::4], strict=True)]
        return leads, _noted([member for member, _, _ in writes], spent)

    def settled(self, writes: Sequence[tuple[str, int]]) -> list[Noted]:
        """The claims that are over, now that MongoDB has these versions of documents, in one round trip."""
        notes = [self._note(member, version, stored=True) for member, version in writes]
        return _noted([member for member, _ in writes], self._wire.run_many(_RECORD_CLAIMS, notes))

    def release(self, noted: Iterable[tuple[Noted, int]]) -> None:
        """Take claims back, in one round trip; each with the TTL in ms of the alias that comes in its place."""
        calls: list[Call] = []
        for one, ttl_ms in noted:
            for name in one.names:
                key, _, claims_key = self._keys(name)
                calls.append(((claims_key, key), (one.member, one.version, one.stored, ttl_ms)))
        self._wire.run_many(_RELEASE_CLAIM, calls)

    def drop_many(self, names: Sequence[str]) -> list[bool]:
        """Forget aliases by name, and what is being asked for them; whether each was there. Claims stand."""
        commands: list[Command] = []
        for name in names:
            key, load, _ = self._keys(name)
            commands += [("DEL", load), ("DEL", key)]  # in this order: a fill in between is deleted
        return [bool(answer) for answer in self._wire.calls(commands)[1::2]]

    # Reconciling ------------------------------------------------------------------------------------

    def claims(self, names: Sequence[str]) -> list[Claim]:
        """All claims to values, by the names of their aliases."""
        answers = self._wire.calls([("ZRANGE", self._keys(name)[2], 0, -1, "WITHSCORES") for name in names])
        return [
            Claim(name, member.decode(), whole(version))
            for name, flat in zip(names, answers, strict=True)
            for member, version in pairs(flat)
            if named(member) is not None
        ]

    def let_go(self, claim: Claim, *, ttl_ms: int) -> bool:
        """Take a claim back, if it is still the same; the alias that comes in its place lives for `ttl_ms`."""
        key, _, claims_key = self._keys(claim.name)
        claimed = self._layout.of(claim.member).claimed(claim.member)
        self._wire.call("ZREMRANGEBYSCORE", claimed, "-inf", claim.version)
        return bool(self._wire.run(_RELEASE_CLAIM, (claims_key, key), (claim.member, claim.version, 1, ttl_ms)))

    def _note(self, member: str, version: int, names: Sequence[str] = (), *, stored: bool = False) -> Call:
        of = self._layout.of(member)
        return (of.claimed(member), of.pending, of.dead), (member, version, int(stored), *names)

    def _keys(self, name: str) -> tuple[str, str, str]:
        """The keys of an alias, of the token of whoever may fill it, and of the claims to its value."""
        of = self._layout.of(name)
        return of.alias(name), of.alias_load(name), of.alias_claims(name)


def _leads(claims: Sequence[bytes], value: bytes | None, ttl_ms: int = -1) -> Leads:
    without = _WITHOUT.match(value or b"")
    member = value[without.end() :] if value and without else value
    # What names no document was put there by other hands: it says nothing.
    known = None if member is None or ((member or without) and named(member) is None) else member.decode()
    version = int(without[1]) if without else None
    return Leads([one.decode() for one in claims if named(one) is not None], known, ttl_ms, without=version)


def _noted(members: Sequence[str], spent: Sequence[Sequence[bytes]]) -> list[Noted]:
    return [
        Noted(member, version, stored, [name.decode(errors="replace") for name in names])
        for member, (version, stored, *names) in zip(members, spent, strict=True)
    ]
