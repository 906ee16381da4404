"""The state of the circuit breaker before MongoDB, which all processes share."""

from __future__ import annotations

import re
from dataclasses import dataclass

from writebehind.redis.keys import BREAKER
from writebehind.redis.scripts import script
from writebehind.redis.wire import Wire

_TIME = re.compile(rb"[0-9]{1,16}")

_ASK_BREAKER, _RECORD_FAILURE = script("ask_breaker"), script("record_failure")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether MongoDB may be asked.

    Attributes:
        is_open: nobody may, for `left_ms`, because of a `reason`.
        probing: the caller may, and says afterwards how it went.
        silent: while it is open, whether MongoDB gives no sign of life: then only who asks for one finds out.
    """

    is_open: bool = False
    probing: bool = False
    left_ms: int = 0
    reason: str = ""
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Noted:
    """The state as it stands there, with times in ms by the clock of Redis; `None` where they are not readable."""

    state: str
    reason: str
    since_ms: int | None
    until_ms: int | None


class SharedBreaker:
    """The shared state. Safe to share between threads."""

    def __init__(self, wire: Wire) -> None:
        """Keep it on a server."""
        self._wire = wire

    def ask(self, *, probe_ms: int, longest_ms: int, for_a_sign: bool = False) -> Verdict:
        """May MongoDB be asked?

        Args:
            probe_ms: how long the one who finds out may take.
            longest_ms: between two probes.
            for_a_sign: whether the caller would only ask for a sign of life.
        """
        verdict, *more = self._wire.run(_ASK_BREAKER, (BREAKER,), (probe_ms, longest_ms, int(for_a_sign)))
        if verdict == b"open":
            left_ms, reason, silent = more
            return Verdict(
                is_open=True, left_ms=int(left_ms), reason=reason.decode(errors="replace"), silent=silent == b"1"
            )
        return Verdict(probing=verdict == b"probe")

    def record_failure(
        self,
        reason: str,
        *,
        probing: bool,
        failures: int,
        window_ms: int,
        first_ms: int,
        longest_ms: int,
        silent: bool = False,
    ) -> int:
        """Note that MongoDB did not serve; how long to leave it alone, ms.

        Args:
            reason: why.
            probing: whether the caller was to find out.
            failures: so many within `window_ms` open the breaker.
            window_ms: see there.
            first_ms: between two probes, at first; it doubles with each that fails.
            longest_ms: the same, at most.
            silent: whether MongoDB gives no sign of life. That alone opens it, and the interval does not grow.
        """
        limits = (failures, window_ms, first_ms, longest_ms)
        return int(self._wire.run(_RECORD_FAILURE, (BREAKER,), (reason, int(probing), *limits, int(silent))))

    def close(self) -> None:
        """Note that MongoDB serves."""
        self._wire.call("DEL", BREAKER)

    def noted(self) -> Noted | None:
        """The breaker's note; `None` while it is closed."""
        state, reason, since, until = self._wire.call("HMGET", BREAKER, "state", "why", "since", "until")
        if state is None:  # there may be failures, but too few
            return None
        return Noted(
            state.decode(errors="replace"), (reason or b"").decode(errors="replace"), _ms(since), _ms(until)
        )

    def now_s(self) -> float:
        """The clock that the times are of, seconds."""
        return self._wire.now_ms(BREAKER) / 1000


def _ms(field: bytes | None) -> int | None:
    """A time in Redis, ms; `None` where other hands have taken it out or made it unreadable."""
    return int(field) if field is not None and _TIME.fullmatch(field) else None
