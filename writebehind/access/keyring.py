"""The API keys that a process knows: read from Redis every other second, so that no request asks it.

Tokens of an issuer are taken beside them, where there is one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from writebehind import forks
from writebehind.access.issuer import Issuer
from writebehind.access.keys import BEGINNING, ApiKey, Rotation, Token
from writebehind.access.rights import Rights
from writebehind.access.seen import SeenKeys
from writebehind.access.subjects import Holder
from writebehind.deadline import about_to_wait
from writebehind.errors import RedisUnavailableError
from writebehind.redis.shared.api_keys import ApiKeys, Recorded

log = logging.getLogger(__name__)

#: For so long keys are taken as they were read last, seconds: a revoked one is refused within 5 s, also where a
#: thread is at work on reading them that waits for Redis.
FRESH_S: Final = 2.0
#: By so much what was read may be too old while somebody reads it anew, seconds; then all wait.
LATE_S: Final = 1.0
#: Everything.
ROOT: Final = Rights.parse(["*:read,write", "admin"])


class Keyring:
    """The keys of an installation. Safe to share between threads.

    While Redis is away, keys are taken as they were read last: nobody can have revoked one there. A process that
    has never read them knows of none, and whether there are any.
    """

    def __init__(
        self, keys: ApiKeys, root: str = "", issuer: Issuer | None = None, seen: SeenKeys | None = None
    ) -> None:
        """Read these.

        Args:
            keys: of the installation.
            root: token of a key that is not among them and may do everything.
            issuer: whose tokens are taken as well.
            seen: says that there were keys where Redis has lost them.
        """
        self._keys = keys
        self.seen = SeenKeys() if seen is None else seen
        self.issuer = issuer
        token = Token.parse(root)
        self._root = None if token is None else ApiKey(token.id, "root", ROOT, 0, None, token.digest)
        self._lock = forks.lock()
        self.begin_anew()
        forks.begins_anew(self)

    def begin_anew(self) -> None:
        """Know nothing that the parent process has read."""
        self._recorded: Mapping[str, Recorded] = {}
        self._was_on = False
        self._known: dict[str, ApiKey] | None = None
        #: Keys by the tokens that were sent, of each its last one.
        self._found: dict[str, ApiKey] = {}
        self._error: RedisUnavailableError | None = None
        self._due = float("-inf")

    def is_on(self) -> bool:
        """Whether there is an issuer or any key, also if none of them is live: nobody else may do anything then.

        Raises:
            RedisUnavailableError: it was never known, and Redis does not answer.
        """
        if self._root is not None or self.issuer is not None:
            return True
        self._all()
        return self._was_on or bool(self._recorded)

    def is_known(self, text: str | None) -> bool:
        """Whether `is_on`, and `find` of a token that a request has, wait for nobody and take no time."""
        if self.issuer is not None and text and not text.startswith(BEGINNING):
            return self.issuer.is_known(text)
        if self._root is not None and text is not None and self._found.get(text) is self._root:
            return True
        return self._known is not None and time.monotonic() < self._due

    def find(self, text: str, *, told: bool = True) -> Holder | None:
        """The live key whose token this is, or the subject of a token of the issuer, if it is one.

        Args:
            text: a token, or what was sent as one.
            told: whether the log is told why it is refused. If not, some that are taken may not be found.

        Raises:
            RedisUnavailableError: no key was ever read, and Redis does not answer.
            TokenKeysError: no key of the issuer was ever read.
        """
        if self.issuer is not None and text and not text.startswith(BEGINNING):
            return self.issuer.find(text, told=told)
        key = self._found.get(text) or self._match(text, {})  # the root key is known whether or not Redis answers
        if key is None or key is not self._root:
            known = self._all()
            if key is None or known.get(key.id) is not key:  # it may have changed since it was found
                key = self._match(text, known)
        return key if key is not None and key.is_live(time.time() * 1000) else None

    def ended(self, text: str) -> ApiKey | None:
        """The key whose token this is, where it is revoked or has expired, or has another secret by now.

        Keys are those that were read last.
        """
        token, now_ms = Token.parse(text), time.time() * 1000
        key = None if token is None else (self._known or {}).get(token.id)
        if key is None or token is None or key.accepts(token, now_ms):
            return None
        return key if key.has(token, now_ms) or key.had(token) else None

    @property
    def has_any(self) -> bool:
        """Whether there is an issuer or any key, as far as is known by now: nobody is asked."""
        return self._root is not None or self.issuer is not None or self._was_on or bool(self._recorded)

    @property
    def root_id(self) -> str | None:
        """The id of the root key, which is in no Redis; `None` where there is none."""
        return None if self._root is None else self._root.id

    @property
    def has_lost(self) -> bool:
        """Whether there were keys, and Redis has none any more, nor the note that it leaves of the last one."""
        return self._was_on and not self._recorded

    def look_for_loss(self) -> bool:
        """`has_lost`, as keys are now or were within the last seconds.

        Raises:
            RedisUnavailableError: no key was ever read, and Redis does not answer.
        """
        self._all()
        return self.has_lost

    def recognise(self, text: str) -> Holder | None:
        """`find` among the keys as they were read last: nobody is asked, and none is let in by it."""
        if self.issuer is not None and text and not text.startswith(BEGINNING):
            return self.issuer.recognise(text)
        key = self._found.get(text) or self._match(text, self._known or {})
        return key if key is not None and key.is_live(time.time() * 1000) else None

    def _match(self, text: str, known: Mapping[str, ApiKey]) -> ApiKey | None:
        """The key that accepts a token; remembered by it, unless that is a former one, which ends sooner."""
        token = Token.parse(text)
        if token is None:
            return None
        root = self._root
        key = root if root is not None and root.id == token.id else known.get(token.id)
        if key is None or not key.accepts(token, time.time() * 1000):
            return None
        if key.digest == token.digest:
            self._found[text] = key
        return key

    def all(self) -> Mapping[str, ApiKey]:
        """All keys by their ids, as they are now.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        with self._lock:
            self._read()
        return dict(self._known or {})

    def _all(self) -> Mapping[str, ApiKey]:
        known = self._known
        now = time.monotonic()
        if now < self._due and known is not None:
            return known
        about_to_wait()
        if not self._lock.acquire(blocking=known is None or now > self._due + LATE_S):
            return known or {}  # somebody is at it
        try:
            if time.monotonic() >= self._due:
                self._look()
        finally:
            self._lock.release()
        if self._known is None:
            raise self._error or RedisUnavailableError("API keys are not known yet")
        return self._known

    def _look(self) -> None:
        """Read them, or know why that cannot be done now: others do not wait for the same."""
        try:
            self._read()
        except RedisUnavailableError as error:
            log.debug("API keys are taken as they were read last: %s", error)
            self._error = error
        finally:
            self._due = time.monotonic() + FRESH_S

    def _read(self) -> None:
        recorded = self._keys.read()
        if recorded != self._recorded or self._known is None:
            # A process that has seen keys does not open because somebody has dropped them.
            self._was_on = self._was_on or bool(recorded or self.seen.found())
            if recorded:
                self.seen.note()
            elif self._was_on:
                log.critical(
                    "Redis has lost all API keys: nobody is let in without one; make others by `writebehind keys "
                    "create`, and see docs/http-api.md#keys",
                    extra={"event": "keys_lost"},
                )
            self._recorded = recorded  # first: what is known tells others that all of it is
            self._known = {
                key_id: key for key_id, one in recorded.items() if (key := _joined(key_id, one)) is not None
            }
            self._found = {}


def _joined(key_id: str, recorded: Recorded) -> ApiKey | None:
    """A key as it is after all that was recorded of it; `None` where that is damaged: it opens nothing then."""
    key = ApiKey.parse(key_id, recorded.begun)
    last = max(recorded.rotations, default=0)
    for number in range(max(1, last - 1), last + 1):  # the last secret, and the one before
        rotation = Rotation.parse(recorded.rotations.get(number, b""))
        if key is None or rotation is None:
            return None
        key = replace(key.rotated(rotation), rotations=number)
    if key is None or not recorded.revoked:
        return key
    return key.revoked(int(recorded.revoked) if recorded.revoked.isdigit() else key.created_ms)
