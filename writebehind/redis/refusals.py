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
#: The words for a step that somebody has ended, which had changed nothing then.
_KILLED = "Script killed by user"
#: The same for what the user of this process may not do, also within a step.
_FORBIDDEN = re.compile("^NOPERM|ACL failure in script|can't run this command or subcommand|no permissions to")
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
        if isinstance(answer, NoPermissionError) or _FORBIDDEN.search(str(answer)):
            raise RedisForbidsError(inner=f"{answer}; {_RIGHTS}") from answer
        if isinstance(answer, _NOT_NOW_CLASSES) or str(answer).startswith(_NOT_NOW) or _KILLED in str(answer):
            raise RedisNotReadyError(inner=answer) from answer
        if _MISTYPED in str(answer):
            mistyped.append(at)
    return mistyped


def raise_refused(error: ResponseError) -> NoReturn:
    """Raise an error of Redis; one that a step met, as only other hands can be the cause, as unavailable."""
    if _MET_BY_STEP.search(str(error)):
        _spoiled.note("spoiled values", _SPOILED.format(error), level=logging.CRITICAL, event="other_hands")
        raise SpoiledError("what other hands have put into Redis is in the way", inner=error) from error
    raise error
