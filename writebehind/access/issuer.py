"""The issuer of tokens, an OpenID Connect provider or alike, as a process knows it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Final

from writebehind import forks
from writebehind.access import published
from writebehind.access.read_ahead import AGAIN_S, ReadAhead, Wording
from writebehind.access.subjects import Subject
from writebehind.allowance import Allowance
from writebehind.errors import ConfigurationError, TokenKeysError
from writebehind.logs.states import StateLog
from writebehind.outage_log import OutageLog

if TYPE_CHECKING:
    from writebehind.access.jose import Verifier

log = logging.getLogger(__name__)

#: Tokens that a process remembers as verified: the last ones, at least half as many.
MOST_VERIFIED: Final = 4_096
_WORDING: Final = Wording(
    away="the issuer's keys are not to be had",
    kept="those of before are taken",
    nothing="no token is taken",
    back="the issuer's keys are to be had again",
)
#: Tokens that are verified in a second to know whose a request is that may yet be refused. To verify one takes
#: half a millisecond, of the event loop, and anybody may send what is none.
MOST_RECOGNISED: Final = 50


class Verified:
    """Tokens that were verified, by their text, with their subjects. Safe to share between threads."""

    def __init__(self, most: int = MOST_VERIFIED) -> None:
        """Remember none yet, and so many at most."""
        self._half = max(1, most // 2)
        self._lock = forks.lock()
        self.begin_anew()
        forks.begins_anew(self)

    def begin_anew(self) -> None:
        """Remember none."""
        self._late: dict[str, Subject] = {}
        self._early: dict[str, Subject] = {}

    def __len__(self) -> int:
        """The number of those that are remembered."""
        return len(self._late) + len(self._early)

    def find(self, text: str) -> Subject | None:
        """The subject of a token that is remembered."""
        found = self._late.get(text)
        if found is None and (found := self._early.get(text)) is not None:
            self.keep(text, found)
        return found

    def keep(self, text: str, subject: Subject) -> None:
        """Remember a token; those that were not sent while half as many others were are forgotten."""
        with self._lock:
            self._early.pop(text, None)
            if len(self._late) >= self._half:
                self._late, self._early = {}, self._late
            self._late[text] = subject


@dataclass(frozen=True, slots=True)
class _Known:
    """Keys as they were read, and the tokens that were verified by them."""

    data: bytes
    verifier: Verifier
    verified: Verified


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens that are taken.

    Attributes:
        issuer: the claim `iss`.
        audience: of whom `aud` has at least this one.
        keys: path or URL of the issuer's key set.
        algorithms: by which they may be signed.
        scope_claim: the claim with what they allow, a list or a text with blanks between.
    """

    issuer: str
    audience: str
    keys: str
    algorithms: Sequence[str]
    scope_claim: str

    def verifier(self, data: bytes) -> Verifier:
        """Whoever verifies them by the keys of a set. Raises as `Verifier`."""
        from writebehind.access.jose import Verifier  # noqa: PLC0415 - an extra, and slow to import

        return Verifier(
            data,
            algorithms=self.algorithms,
            issuer=self.issuer,
            audience=self.audience,
            scope_claim=self.scope_claim,
        )


class Issuer:
    """Whoever issues tokens. Safe to share between threads."""

    def __init__(self, tokens: Tokens) -> None:
        """Take these tokens. Nothing is read before it is needed."""
        self.tokens = tokens
        self._refusals = OutageLog(log, "token refused", "tokens refused")
        self._recognised = Allowance(MOST_RECOGNISED)
        away = StateLog(log, "token_keys_away", "token_keys_back")
        self._keys = ReadAhead(self._read, away, _WORDING, thread="token-keys")

    def check(self) -> None:
        """Begin to read the keys; those of a file at once.

        Raises:
            ConfigurationError: the file has none, or the extra is missing.
        """
        check_installed()
        if "://" in self.tokens.keys:
            self._keys.begin()
            return
        try:
            self._keys.read()
        except TokenKeysError as error:
            raise ConfigurationError(f"WRITEBEHIND_JWT_JWKS: {error}") from None

    def find(self, text: str, *, told: bool = True) -> Subject | None:
        """The subject of a token; `None` where it is refused, for which the log says why if it is to be told.

        If not, it is also `None` for tokens that were not verified before, but for so many in a second.

        Raises:
            TokenKeysError: no keys were ever read.
        """
        known = self._keys.get()
        if known is None:
            raise TokenKeysError(retry_after_s=AGAIN_S)
        return self._subject(text, known, told=told)

    def is_known(self, text: str) -> bool:
        """Whether a token was verified before, so that to find it takes no time."""
        known = self._keys.last
        return known is not None and known.verified.find(text) is not None

    def recognise(self, text: str) -> Subject | None:
        """`find` by the keys that are known: nobody is waited for, and nobody is let in by it.

        Of tokens that were not verified before, it knows so many in a second, and no more.
        """
        known = self._keys.last
        return None if known is None else self._subject(text, known, told=False)

    def _subject(self, text: str, known: _Known, *, told: bool) -> Subject | None:
        found = known.verified.find(text)
        if found is None and (told or self._recognised.take()):
            found = self._verified(text, known, told=told)
        return found if found is not None and time.time() < found.until else None

    def _verified(self, text: str, known: _Known, *, told: bool) -> Subject | None:
        from writebehind.access.jose import TokenRefusedError, UnknownSignerError  # noqa: PLC0415 - an extra

        try:
            found = known.verifier.verify(text)
        except TokenRefusedError as error:
            if isinstance(error, UnknownSignerError):
                self._keys.doubt()
            if told:
                kind = f"a token is refused: {error}"
                self._refusals.note(kind, kind, event="token_refused", reason=str(error))
            return None
        known.verified.keep(text, found)
        return found

    def _read(self, last: _Known | None) -> _Known:
        data = published.read(self.tokens.keys)
        if last is not None and data == last.data:
            return last
        return _Known(data, self.tokens.verifier(data), Verified())


def check_installed() -> None:
    """See that what verifies tokens is installed.

    Raises:
        ConfigurationError: a package is missing.
    """
    try:
        import_module("writebehind.access.jose")  # here, and not in a thread: this process may fork meanwhile
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"WRITEBEHIND_JWT_ISSUER needs {error.name}: pip install 'writebehind[jwt]'"
        ) from None
