"""What Redis refuses is told apart: not now, not to this user, full, or values of others in the way."""

from __future__ import annotations

import pytest
from redis.exceptions import (
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)

from writebehind.errors import (
    NoReplicasError,
    RedisForbidsError,
    RedisFullError,
    RedisNotReadyError,
    RedisUnavailableError,
    SpoiledError,
)
from writebehind.redis.connections import connection_pool
from writebehind.redis.reach import is_away
from writebehind.redis.refusals import check_served, is_refused_for_now, raise_refused
from writebehind.redis.wire import Wire


def raised(answer: ResponseError) -> type[Exception]:
    try:
        check_served([answer])
        raise_refused(answer)
    except (RedisUnavailableError, ResponseError) as error:
        return type(error)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (ReadOnlyError("You can't write against a read only replica."), RedisNotReadyError),
        (MasterDownError("Link with MASTER is down"), RedisNotReadyError),
        (ResponseError("BUSY Redis is busy running a script."), RedisNotReadyError),
        (ResponseError("NOREPLICAS Not enough good replicas to write."), NoReplicasError),
        (ResponseError("MISCONF Errors writing to the AOF file"), RedisNotReadyError),
        (
            ResponseError(
                "Error running script (call to f_1): @user_script:1: Script killed by user with SCRIPT KILL"
            ),
            RedisNotReadyError,
        ),
        (OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), RedisFullError),
        (NoPermissionError("User api has no permissions to run the 'set' command"), RedisForbidsError),
        (
            ResponseError(
                "The user executing the script can't run this command or subcommand script: 1, on @user_script:1."
            ),
            RedisForbidsError,
        ),
        (
            ResponseError("ACL failure in script: User api has no permissions to run the 'set' command"),
            RedisForbidsError,
        ),
        (ResponseError("user_script:1: attempt to compare nil with number"), SpoiledError),
        (ResponseError("unknown command 'NONE'"), ResponseError),
    ],
)
def test_refusals(answer, kind):
    """Each has its own error, on which the answer to a client depends."""
    assert kind is raised(answer)


@pytest.mark.parametrize(
    ("answer", "passes"),
    [
        (ResponseError("MISCONF Errors writing to the AOF file"), True),
        (ResponseError("Command # 1 (LPUSH a b) of pipeline caused error: MISCONF Errors writing"), True),
        (ResponseError("NOREPLICAS Not enough good replicas to write."), True),
        (ReadOnlyError("You can't write against a read only replica."), True),
        (MasterDownError("Link with MASTER is down"), True),
        (OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), True),
        (NoPermissionError("User api has no permissions to run the 'set' command"), True),
        (ResponseError("WRONGTYPE Operation against a key"), False),
        (ResponseError("unknown command 'NONE'"), False),
        (ValueError("MISCONF"), False),
    ],
)
def test_what_a_worker_waits_for(answer, passes):
    """It ends neither by a full disk nor by a replica; what will not pass is a fault."""
    assert passes == is_refused_for_now(answer)


def test_what_cannot_serve_now_is_away_and_what_refuses_is_not():
    """Only the former lets reads go to MongoDB, and other partitions go on."""
    assert is_away(RedisNotReadyError())
    assert not any(is_away(one()) for one in (RedisForbidsError, SpoiledError, RedisFullError))
    assert issubclass(RedisForbidsError, SpoiledError)


def test_a_user_without_a_right(valkey, wire):
    """A command and a step that its user may not carry out say what is missing, and what to do."""
    wire.call("ACL", "SETUSER", "narrow", "on", ">secret", "~*", "&*", "+@all", "-set")
    url = valkey.url.replace("redis://", "redis://narrow:secret@")
    narrow = Wire(connection_pool(url, 5_000))
    try:
        with pytest.raises(RedisForbidsError, match="ACL LOG"):
            narrow.call("SET", "one", "1")
        with pytest.raises(RedisForbidsError, match="ACL LOG"):
            narrow.calls([("EVAL", "return redis.call('SET', KEYS[1], '1')", 1, "one")])
        assert narrow.call("PING") == b"PONG"
    finally:
        narrow.close()
        wire.call("ACL", "DELUSER", "narrow")
