"""Keys of a broker on Redis that other hands have put something of another type into: they are taken out.

kombu raises for one whatever it does with it, and Celery's worker ends, as does the next one.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

from kombu.exceptions import OperationalError
from redis.exceptions import ResponseError

from writebehind.celery.names import QUEUES
from writebehind.celery.refusing import BrokerRefusesError, is_full, lost
from writebehind.logs.events import OTHER_HANDS
from writebehind.logs.states import StateLog

log = logging.getLogger(__name__)

#: Exchanges that Celery's workers bind their own queues to: commands, their answers, and events.
_CELERYS: Final = ("celery.pidbox", "reply.celery.pidbox", "celeryev")
#: So long after a message was to be given to a worker again somebody would have done so, seconds.
_MOST_OVERDUE_S: Final = 5
#: So often a step is tried that meets such a key: other hands may put one there again while it is taken out.
_MOST_TRIES: Final = 5
#: Messages that are looked at at once.
_MOST_AT_ONCE: Final = 100
#: So many characters are told of what is taken out.
_SHOWN: Final = 200
_mistyped: Final = StateLog(log, "queues_mistyped", "queues_mended")


def is_mistyped(error: Exception) -> bool:
    """Whether Redis has said that a key is of another type than the command takes, also by an error of kombu's."""
    said = error.__cause__ if isinstance(error, OperationalError) else error
    return isinstance(said, ResponseError) and "WRONGTYPE" in str(said)


def mend(channel: Any) -> bool:
    """Take out what other hands have put in the place of a key of the broker, and what stands in a message's way.

    Queues of the application's own are only told of. A broker other than Redis has no such keys.

    Returns:
        Whether all is well now: no queue of the application's own is of another type.

    Raises:
        Exception: what the transport fails with.
    """
    if not hasattr(channel, "conn_or_acquire"):
        return True
    with channel.conn_or_acquire() as client:
        for _ in range(_MOST_TRIES - 1):
            try:
                return _mend_once(client, channel)
            except ResponseError as error:  # its key has been put there since it was looked at
                if not is_mistyped(error):
                    raise
        return _mend_once(client, channel)


def _mend_once(client: Any, channel: Any) -> bool:
    _take_out_mistyped(client, dict(_types(channel)))
    _take_out_lock(client, channel)
    _take_out_unreadable(client, channel)
    return _see_others(client, channel)


def guard(channel: Any) -> None:
    """Have a channel try again what meets such a key while it notes a message, its end, or that it comes again.

    What Redis refuses is a lost connection to whoever calls, who is prepared for one.
    """
    qos = channel.qos
    append = qos.append
    noted_here: Any = super(type(qos), qos)  # without what is in Redis

    def guarded(call: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        try:
            again(lambda: channel, call, *arguments, **options)
        except ResponseError as error:
            raise lost(error) from error

    def append_message(message: Any, tag: str) -> None:
        try:
            again(lambda: channel, append, message, tag)
        except ResponseError as error:
            if not is_full(error):
                raise lost(error) from error
            # Of a hint, whose flush makes room; but a task of the application's own is lost with its worker now.
            noted_here.append(message, tag)

    def end(call: Callable[..., Any], tag: str, *arguments: Any, **options: Any) -> None:
        try:
            guarded(call, tag, *arguments, **options)
        except BrokerRefusesError:
            noted_here.ack(tag)  # or its place stays taken for ever; it comes again

    for name in ("ack", "reject"):
        setattr(qos, name, partial(end, getattr(qos, name)))
    qos.append, qos.restore_visible = append_message, partial(guarded, qos.restore_visible)


def again(channel: Callable[[], Any], call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """The answer of a call, which is made some times more where it has met such a key of the channel."""
    for _ in range(_MOST_TRIES - 1):
        try:
            return call(*arguments, **options)
        except (OperationalError, ResponseError) as error:
            if not is_mistyped(error):
                raise
        try:
            mend(channel())
        except Exception as failure:  # noqa: BLE001 - whoever calls hears of what the call meets
            log.warning("a key of the broker could not be mended: %s", failure)
            break
    return call(*arguments, **options)


def _types(channel: Any) -> Iterator[tuple[str, str]]:
    """The keys of our queues, and of what all queues of the broker share, each with its type."""
    for queue in QUEUES:
        for key in _keys_of(channel, queue):
            yield key, "list"
    for exchange in (*QUEUES, *_CELERYS):
        yield channel.keyprefix_queue % exchange, "set"
        if hasattr(channel, "keyprefix_binding_permanent"):  # kombu 5.6 and newer, as the next one
            yield channel.keyprefix_binding_permanent % exchange, "set"
    if hasattr(channel, "keyprefix_binding_deadlines"):
        yield channel.keyprefix_binding_deadlines, "zset"
    yield channel.unacked_key, "hash"
    yield channel.unacked_index_key, "zset"
    yield channel.unacked_mutex_key, "string"


def _keys_of(channel: Any, queue: str) -> Sequence[str]:
    """The lists of a queue, one for each priority."""
    return [channel._q_for_pri(queue, one) for one in channel.priority_steps]  # noqa: SLF001 - only kombu knows


def _types_there(client: Any, keys: Sequence[str]) -> list[str]:
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.type(key)
        return [one.decode() for one in pipe.execute()]


def _take_out_mistyped(client: Any, types: dict[str, str]) -> None:
    there = _types_there(client, [*types])
    for (key, kind), found in zip(types.items(), there, strict=True):
        if found not in {"none", kind} and _take_out(client, key, kind):
            log.critical(
                "other hands put a %s into %r of the broker: it is taken out",
                found,
                key,
                extra=OTHER_HANDS,
            )


def _take_out(client: Any, key: str, kind: str) -> bool:
    """Whether it is taken out: it has its type again where another worker has been faster."""

    def look(pipe: Any) -> bool:
        found = pipe.type(key).decode()
        pipe.multi()
        if found in {"none", kind}:
            return False
        pipe.delete(key)
        return True

    return bool(client.transaction(look, key, value_from_callable=True))


def _take_out_lock(client: Any, channel: Any) -> None:
    """Take out a lock that lives longer than one of kombu's: with it no message comes again."""
    key, most_ms = channel.unacked_mutex_key, 1000 * channel.unacked_mutex_expire
    left_ms = client.pttl(key)
    if left_ms == -1 or left_ms > most_ms:
        client.delete(key)
        log.critical(
            "other hands put a lock that does not run out into %r of the broker: it is taken out",
            key,
            extra=OTHER_HANDS,
        )


def _take_out_unreadable(client: Any, channel: Any) -> None:
    """Take out what kombu cannot read: as long as it stumbles over it, no other message comes again."""
    overdue = time.time() - channel.visibility_timeout - _MOST_OVERDUE_S
    tags = client.zrange(channel.unacked_index_key, "-inf", overdue, byscore=True, offset=0, num=_MOST_AT_ONCE)
    if not tags:
        return
    values = client.hmget(channel.unacked_key, tags)
    unreadable = [
        tag for tag, value in zip(tags, values, strict=True) if value is not None and not _is_read(value)
    ]
    if unreadable:
        with client.pipeline() as pipe:
            pipe.hdel(channel.unacked_key, *unreadable)
            pipe.zrem(channel.unacked_index_key, *unreadable)
            pipe.execute()
        told = ", ".join(map(repr, unreadable))[:_SHOWN]
        log.critical(
            "other hands put what is no message into the broker, to come again: it is dropped: %s",
            told,
            extra=OTHER_HANDS,
        )


def _is_read(value: bytes) -> bool:
    """Whether it is a message with its exchange and routing key, as kombu unpacks it."""
    try:
        _, exchange, key = json.loads(value)
    except (ValueError, TypeError, RecursionError):
        return False
    return isinstance(exchange, str) and isinstance(key, str)


def _see_others(client: Any, channel: Any) -> bool:
    """Name the application's own queues that have another type: they are for its owner to mend."""
    own = [queue for queue in channel.active_queues if queue not in QUEUES]
    keys = [key for queue in own for key in _keys_of(channel, queue)]
    there = zip(keys, _types_there(client, keys), strict=True)
    wrong = [f"{key!r} ({found})" for key, found in there if found not in {"none", "list"}]
    if wrong:
        line = f"queues of the application are of another type than a list: {', '.join(wrong)[:_SHOWN]}"
        _mistyped.begin(f"{line}; take them out, as no message gets through")
    else:
        _mistyped.end("queues of the application are lists")
    return not wrong
