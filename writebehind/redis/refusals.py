"""Meaning of what Redis refuses: not now, not to this user, or not with what others have put there."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from redis.exceptions import (
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from writebehind.errors import (
    NoReplicasError,
    RedisForbidsError,
    RedisFullError,
    RedisNotReadyError,
    RedisUnavailableError,
    SpoiledError,
)
from writebehind.outage_log import OutageLog

log = logging.getLogger(__name__)

_spoiled = OutageLog(log, "step")

#: Server errors that say "not now" rather than "not like this".
_NOT_NOW = ("LOADING", "CLUSTERDOWN", "NOREPLICAS", "BUSY", "MISCONF")
#: What it says of a key that holds something else than the command is about, and of an error of a step.
_MISTYPED, _MET_BY_STEP = "WRONGTYPE", re.compile("user_script|Error running script")
#: The same where redis-py has a class for it, and takes the code off the message.
_NOT_NOW_CLASSES = (ReadOnlyError, MasterDownError, ClusterDownError, TryAgainError)
#: What redis-py puts before the words of Redis about a command that was one of several.
OF_PIPELINE = "of pipeline caused error: "
#: The words for a step that somebody has ended, which had changed nothing then.
_KILLED = "Script killed by user"
#: The same for what the user of this process may not do, also within a step.
_FORBIDDEN = re.compile("^NOPERM|ACL failure in script|can't run this command or subcommand|no permissions to")
#: A write that writes nothing, as there is never such a key: refused as what does write. A node of a cluster that
#: has other slots refuses it too, by an error of another kind.
PROBE = "#!lua\nreturn redis.pcall('SET', 'wb:probe', '', 'XX')"
#: The codes that redis-py takes off what it has a class for.
_CODES = {
    ReadOnlyError: "READONLY",
    OutOfMemoryError: "OOM",
    NoPermissionError: "NOPERM",
    MasterDownError: "MASTERDOWN",
    ClusterDownError: "CLUSTERDOWN",
}
#: So much of Redis's words is told, characters: some go on with explanations of several sentences.
_SHOWN = 120
_RIGHTS = "ACL LOG in Redis names what was refused: permit it to the user in REDIS_URL"
_SPOILED = "what other hands have put into Redis is in the way of a step, until somebody takes it out: {}"


def check_served(answers: Sequence[Any]) -> list[int]:
    """See that no answer says "not now"; those that say that a key is of another type. Raises as `Wire.calls`."""
    mistyped = []
    for at, answer in enumerate(answers):
        if isinstance(answer, RedisUnavailableError):
            raise answer
        if not isinstance(answer, ResponseError):
            continue
        if isinstance(answer, OutOfMemoryError):
            raise RedisFullError from answer
        if error := forbidden(answer) or not_now(answer):
            raise error from answer
        if is_mistyped(answer):
            mistyped.append(at)
    return mistyped


def is_mistyped(answer: ResponseError) -> bool:
    """Whether a key holds something else than a command is about."""
    return _MISTYPED in str(answer)


def forbidden(answer: Any) -> RedisForbidsError | None:
    """The error for an answer by which a server does not permit its user a command; `None` for another answer."""
    if isinstance(answer, NoPermissionError) or (
        isinstance(answer, ResponseError) and _FORBIDDEN.search(str(answer))
    ):
        return RedisForbidsError(inner=f"{answer}; {_RIGHTS}")
    return None


def not_now(answer: Any) -> RedisNotReadyError | None:
    """The error for an answer by which a server says "not now"; `None` for another answer."""
    if not isinstance(answer, ResponseError):
        return None
    words = str(answer)
    if isinstance(answer, _NOT_NOW_CLASSES) or words.startswith(_NOT_NOW) or _KILLED in words:
        return not_ready(words)
    return None


def not_ready(words: str) -> RedisNotReadyError:
    """The error that says "not now", by the words of Redis."""
    kind = NoReplicasError if words.startswith("NOREPLICAS") else RedisNotReadyError
    return kind(inner=words)


def is_refused_for_now(answer: BaseException | None) -> bool:
    """Whether Redis carried nothing out for a reason that may pass: it is full, no primary, or permits it not."""
    if not isinstance(answer, ResponseError):
        return False
    said = str(answer).rpartition(OF_PIPELINE)[2]
    is_told = said.startswith(_NOT_NOW) or _FORBIDDEN.search(said) is not None
    return is_told or isinstance(answer, (*_NOT_NOW_CLASSES, OutOfMemoryError, NoPermissionError))


def refusal(answer: Any = None) -> str:
    """The words by which an answer to `PROBE` refuses whatever is written; '' where it does not."""
    if not is_refused_for_now(answer):
        return ""
    code = _CODES.get(type(answer)) or ("NOPERM" if _FORBIDDEN.search(str(answer)) else "")
    said = f"{code} {str(answer).removeprefix(code).strip()}".strip()
    return said if len(said) <= _SHOWN else f"{said[:_SHOWN].rstrip()} …"


def raise_refused(error: ResponseError) -> NoReturn:
    """Raise an error of Redis; one that a step met, as only other hands can be the cause, as unavailable."""
    if _MET_BY_STEP.search(str(error)):
        _spoiled.note("spoiled values", _SPOILED.format(error), level=logging.CRITICAL, event="other_hands")
        raise SpoiledError("what other hands have put into Redis is in the way", inner=error) from error
    raise error
