"""Operations on API keys: made, shown, given new secrets, and revoked."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from writebehind.access.keyring import Keyring
from writebehind.access.keys import ApiKey, Rotation, Token, check_name, new_id
from writebehind.access.rights import Rights
from writebehind.errors import InvalidArgumentError, KeyConflictError, UnknownKeyError
from writebehind.redis.shared.api_keys import ApiKeys, Kept, Recorded

log = logging.getLogger(__name__)

#: As many fields as Redis keeps of all keys.
MOST_RECORDED = 10_000
#: For so long the former secret of a key is accepted, seconds: a day.
OVERLAP_S = 86_400
#: Keys that ended so long ago are forgotten where room is needed, seconds: 30 days.
FORGOTTEN_S = 30 * 86_400
#: Ten years, seconds.
LONGEST_S = 10 * 366 * 86_400
#: Bounds of a rate that a key has for itself, items in a second.
LEAST_RATE, MOST_RATE = 0.001, 10**9
#: The most requests at a time that a key may be given for itself.
MOST_CONCURRENT = 10**9


_AGAIN = "it opens again: once a replica is there, `writebehind keys revoke {}`"
_TAKEN = "there is a key called {!r}: revoke it, or choose another name"


class Issued(NamedTuple):
    """A key with its new token, which nobody can show again; `replicated` as for `Kept`."""

    key: ApiKey
    token: Token
    replicated: bool | None

    def as_dict(self, now_ms: float) -> dict[str, Any]:
        """The key for people and programs, with its token."""
        return self.key.as_dict(now_ms) | {"token": self.token.text, "replicated": self.replicated}


class Revoked(NamedTuple):
    """A key that is refused from now on; `replicated` as for `Kept`."""

    key: ApiKey
    replicated: bool | None

    def as_dict(self, now_ms: float) -> dict[str, Any]:
        """The key for people and programs."""
        return self.key.as_dict(now_ms) | {"replicated": self.replicated}


class KeyOffice:
    """Makes keys, and ends them. Safe to share between threads."""

    def __init__(self, keys: ApiKeys, keyring: Keyring) -> None:
        """Keep them there, and read them so."""
        self._keys = keys
        self._keyring = keyring

    @property
    def root_id(self) -> str | None:
        """The id of the root key of the settings, which is among no others; `None` where there is none."""
        return self._keyring.root_id

    def listed(self) -> Sequence[ApiKey]:
        """All keys, the oldest first.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        return sorted(self._keyring.all().values(), key=lambda one: (one.created_ms, one.id))

    def get(self, named: str) -> ApiKey:
        """The key with an id; or with a name that no other live key has, or else no other one that has expired.

        Raises:
            InvalidArgumentError: several have this name.
            UnknownKeyError: there is none.
            RedisUnavailableError: Redis does not answer.
        """
        every = self._keyring.all()
        if named in every:
            return every[named]
        found = self._live(named) or self._named(named)
        if len(found) > 1:
            raise InvalidArgumentError(f"several keys are called {named[:100]!r}: name one by its id")
        if not found:
            raise UnknownKeyError(f"there is no key with the id or the name {named[:100]!r}")
        return found[0]

    def create(
        self,
        name: str,
        grants: Iterable[str],
        *,
        expires_s: float | None = None,
        rate: float | None = None,
        concurrency: int | None = None,
    ) -> Issued:
        """Make a key.

        Args:
            name: by which people know it.
            grants: what it allows, such as `users:read,write`.
            expires_s: seconds after which it is refused; `None` for never.
            rate: how many items its holder may send in a second, 0 for any number; `None` for what the settings
                say.
            concurrency: how many requests its holder may have at a time in a web process, in the same way.

        Raises:
            KeyConflictError: a live key has this name.
            InvalidArgumentError: an argument is wrong, or there are too many keys.
            RedisUnavailableError: Redis does not answer.
        """
        check_name(name)
        rights = Rights.parse(grants)
        _check_seconds("a key expires after", expires_s, least=1)
        if rate is not None and not (rate == 0 or LEAST_RATE <= rate <= MOST_RATE):
            raise InvalidArgumentError(f"0 is no rate; others are {LEAST_RATE} to {MOST_RATE} per second")
        if concurrency is not None and not 0 <= concurrency <= MOST_CONCURRENT:
            raise InvalidArgumentError(f"a concurrency is from 0 to {MOST_CONCURRENT} requests at a time")
        if self._live(name):
            raise KeyConflictError(_TAKEN.format(name))
        self._check_room()
        now_ms = _now_ms()
        while True:
            token = Token.new(new_id())
            expires_ms = None if expires_s is None else now_ms + int(expires_s * 1000)
            key = ApiKey(
                *(token.id, name, rights, now_ms, expires_ms, token.digest), rate=rate, concurrency=concurrency
            )
            if (kept := self._keys.begin(key.id, key.record)).is_first:
                break
        if len(self._live(name)) > 1:  # somebody has made another one at the same time: two stay of no name
            self._keys.forget(key.id, Recorded())
            raise KeyConflictError(_TAKEN.format(name))
        return Issued(key, token, _told(kept, key, "is made", "it opens nothing: make another one"))

    def rotate(self, named: str, *, overlap_s: float = OVERLAP_S) -> Issued:
        """Give a key a new secret; its last one is accepted for a while as well, and no others.

        Raises:
            KeyConflictError: somebody has given it another one at the same time.
            InvalidArgumentError: an argument is wrong; or the key is revoked or has expired.
            UnknownKeyError: there is none.
            RedisUnavailableError: Redis does not answer.
        """
        _check_seconds("the former secret is accepted for", overlap_s, least=0)
        key, now_ms = self.get(named), _now_ms()
        if not key.is_live(now_ms):
            raise InvalidArgumentError(f"the key {key.id} is revoked or has expired: make another one")
        self._check_room()
        token = Token.new(key.id)
        rotation = Rotation(token.digest, now_ms, now_ms + int(overlap_s * 1000))
        kept = self._keys.rotate(key.id, key.rotations + 1, rotation.record)
        if not kept.is_first or self._keyring.all()[key.id].digest != token.digest:
            raise KeyConflictError(f"the key {key.id} got another secret just now")
        after = "the former secret opens and this one does not: once a replica is there, rotate it again"
        return Issued(key.rotated(rotation), token, _told(kept, key, "has another secret", after))

    def revoke(self, named: str) -> Revoked:
        """Refuse a key from now on: every process does within 5 s. A revoked one stays so.

        Raises:
            UnknownKeyError: there is none.
            RedisUnavailableError: Redis does not answer.
        """
        key = self.get(named)
        kept = self._keys.revoke(key.id, _now_ms())
        return Revoked(self._keyring.all()[key.id], _told(kept, key, "is revoked", _AGAIN.format(key.id)))

    def _named(self, name: str) -> Sequence[ApiKey]:
        """The keys with this name that are not revoked."""
        return [one for one in self.listed() if one.name == name and one.revoked_ms is None]

    def _live(self, name: str) -> Sequence[ApiKey]:
        """The keys with this name that are neither revoked nor expired."""
        now_ms = _now_ms()
        return [one for one in self._named(name) if one.is_live(now_ms)]

    def _check_room(self) -> None:
        if self._keys.count() < MOST_RECORDED:
            return
        before_ms = _now_ms() - FORGOTTEN_S * 1000
        recorded = self._keys.read()
        for key_id, one in self._keyring.all().items():
            if _ended_ms(one) < before_ms:
                self._keys.forget(key_id, recorded[key_id])
        if self._keys.count() >= MOST_RECORDED:
            raise InvalidArgumentError("there are too many keys and rotations: no more are kept")


def _told(kept: Kept, key: ApiKey, done: str, after: str) -> bool | None:
    """Whether replicas have a change; the log says so where none has."""
    if kept.replicated is False:
        log.warning(
            "the key %s %s, and no replica of Redis has confirmed that: after a failover to one that lacks it, %s",
            *(key.id, done, after),
            extra={"event": "key_unconfirmed", "key": key.id},
        )
    return kept.replicated


def _ended_ms(key: ApiKey) -> float:
    """The time from which on a key is refused, ms."""
    ends = [one for one in (key.revoked_ms, key.expires_ms) if one is not None]
    return min(ends, default=math.inf)


def _check_seconds(what: str, seconds: float | None, *, least: float) -> None:
    if seconds is not None and not least <= seconds <= LONGEST_S:
        raise InvalidArgumentError(f"{what} {least:g} to {LONGEST_S} seconds")


def _now_ms() -> int:
    return int(time.time() * 1000)
