"""Partitions that have left a server with a name: they arrive where all of them is, or come back.

Whoever lets one arrive sees first that replicas have that it left: else a failover would bring it back, beside the
other one. A server has all of a partition where it has the mark that was made after everything else: so has a
replica that takes its place. What is left is dropped once replicas and disks of the other server have that it
arrived.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from uuid import uuid4

from redis.exceptions import ResponseError

from writebehind.redis.connections import Command, Connections
from writebehind.redis.keys import SERVER, partition_keys
from writebehind.redis.leaping import LEAP
from writebehind.redis.scripts import Script, script
from writebehind.redis.topology.confirming import PATIENTLY_MS, SOON_MS, Standing, asked
from writebehind.redis.topology.guard import HOME, frozen_key, place_of
from writebehind.redis.topology.record import Left, MoveError, Records, moved_on

_ARRIVE, _EXPECT, _RETURN = script("arrive_on_server"), script("expect_partition"), script("return_to_server")
_CONFIRM_LEFT, _DROP_LEFT, _RESIGN = script("confirm_left"), script("drop_left"), script("resign_partition")
_NOTE_ARRIVED, _DROP_COPIES = script("note_arrived"), script("drop_copies")
_DROP_EXPIRING = script("drop_expiring")

#: Keys that are looked for, and that are dropped, in one go.
SCANNED, DROPPED = 1_000, 100
#: Replicas have so long to confirm that a partition has left, seconds: it is nowhere meanwhile.
_LEFT_WITHIN_S = 5.0
#: Disks have so long to confirm that a partition has arrived, ms, so often: they are written once a second.
_ON_DISK_WITHIN_MS, _DISK_TRIES = 1_000, 4
_LOOK_AGAIN_S = 0.02
#: What `confirm_left` says of a partition that is frozen.
_FROZEN = -1
#: What `expect_partition` says of a server without a record.
NAMELESS = -1


def settle(source: Connections, target: Connections, place: str, left: Left, least: int = 0) -> None:
    """Let a place that has left be where all of it is: where it goes, or where it was.

    Args:
        source: where it was; without guard, as is `target`.
        target: where it goes.
        place: what has left.
        left: as the record of `source` says.
        least: as for `Standing.of`.

    Raises:
        MoveError: replicas do not confirm that it left; or a server refuses what that needs.
        RedisUnavailableError: a server does not answer.
    """
    until = time.monotonic() + _LEFT_WITHIN_S
    while not (has := has_left(source, place, left, least)):
        if has is None:  # others have seen to it
            return
        if time.monotonic() > until:
            raise Standing.of(source, least).lacking(source)
        time.sleep(_LOOK_AGAIN_S)
    if not arrive(target, place, left):
        bring_back(source, target, place, left)


def has_left(source: Connections, place: str, left: Left, least: int = 0) -> bool | None:
    """Whether replicas have that a place has left, which is not taken back any more; `None` where it has not.

    Raises as `settle`.
    """
    standing = Standing.of(source, max(least, left.least))
    answers = asked(source, [_confirmation(place, left), *standing.wait(SOON_MS)])
    if not answers[0]:
        return None
    return answers[0] != _FROZEN and standing.is_confirmed(answers)


def let_arrive(source: Connections, target: Connections, places: Mapping[str, Left]) -> None:
    """Let places be where they go, as far as replicas have that they left: as many as their mover asks for.

    Raises as `settle`.
    """
    standing = Standing.of(source, max(one.least for one in places.values()))
    answers = asked(source, [*(_confirmation(*one) for one in places.items()), *standing.wait(SOON_MS)])
    left = [place for place, answer in zip(places, answers, strict=False) if answer and answer != _FROZEN]
    if left and standing.is_confirmed(answers):
        asked(target, [_arrival(place, places[place]) for place in left])


def resignations(name: str, records: Records) -> dict[str, Command]:
    """The steps by which a server lets go of what has moved since it was what it says, for good, by place."""
    gone = moved_on(name, records)
    return {
        place: _step(_RESIGN, (SERVER,), (place, left.moves, left.over().text)) for place, left in gone.items()
    }


def arrive(target: Connections, place: str, left: Left) -> bool:
    """Let a place be on a server that has all of it; whether it is there then. Raises as `settle`."""
    return bool(asked(target, [_arrival(place, left)])[0])


def bring_back(source: Connections, target: Connections, place: str, left: Left) -> None:
    """Let a place be where it was, unless it has arrived: the target has lost some of it. Raises as `settle`."""
    standing = Standing.of(target)
    fence = _step(_EXPECT, (SERVER,), (place, uuid4().hex, ""))  # from here on it does not arrive by the mark
    answers = asked(target, [fence, *standing.wait(PATIENTLY_MS)])
    if not answers[0]:
        return
    if answers[0] == NAMELESS:
        raise nameless(target, place)
    if not standing.is_confirmed(answers):
        raise standing.lacking(target)
    _drop_what_mongodb_has(source, place)
    asked(source, [_step(_RETURN, (SERVER, *_versions(place)), (place, left.text, left.moves + 1, *LEAP))])


def _drop_what_mongodb_has(source: Connections, place: str) -> None:
    """Drop copies of documents of a place that has left: where it has arrived in between, they are old by now."""
    if place == HOME:
        return
    for keys in scanned(source, f"{prefix_of(place)}entry:"):
        for at in range(0, len(keys), DROPPED):
            asked(source, [_step(_DROP_EXPIRING, (key,), ()) for key in keys[at : at + DROPPED]])


def nameless(target: Connections, place: str) -> MoveError:
    """The error about a server that came back empty, to which a place was to go."""
    return MoveError(
        f"server {target.name} came back empty, and nobody has recorded yet what it is to have: partition {place} "
        "has not gone there; start this again, which records it"
    )


def see_arrived(
    source: Connections, target: Connections, places: Mapping[str, Left], least: int = 0
) -> dict[str, Left]:
    """See that replicas and disks of a server have that places of another one have arrived. Raises as `settle`.

    Disks have to confirm it that would confirm a write to where they were: the server's, and those of its replicas
    if those of the source do. That is noted at the source: how the places have left, as its record says then.
    """
    _see_confirmed(source, target, places, least)
    over = {place: left.over() for place, left in places.items()}
    asked(
        source, [_step(_NOTE_ARRIVED, (SERVER,), (one, left.text, over[one].text)) for one, left in places.items()]
    )
    return over


def _see_confirmed(source: Connections, target: Connections, places: Mapping[str, Left], least: int) -> None:
    standing = Standing.of(target, least)
    arrivals = [_arrival(place, left) for place, left in places.items()]
    answers = asked(target, [*arrivals, *standing.wait(PATIENTLY_MS)])
    if not all(answers[: len(arrivals)]):
        raise MoveError(f"server {target.name} does not have a partition that has gone there: start this again")
    if not standing.is_confirmed(answers):
        raise standing.lacking(target)
    own = Standing.of(source)
    if not own.writes_file:
        return
    is_on_disk, are_on_theirs = _on_disks(target, standing, arrivals)
    if not is_on_disk:
        raise MoveError(
            f"the disk of server {target.name} does not confirm what it was sent, as that of {source.name} would: "
            "see that it writes an append-only file, and start this again"
        )
    if not are_on_theirs:
        lefts = [_confirmation(*one) for one in places.items()]
        if own.replicas and all(_on_disks(source, own, lefts)):
            raise MoveError(
                f"the disks of replicas of server {target.name} do not confirm what it was sent, and those of "
                f"{source.name} would: see that they write an append-only file, and start this again"
            )


def _on_disks(server: Connections, standing: Standing, commands: Sequence[Command]) -> tuple[bool, bool]:
    """Whether the server's own disk confirms commands, and those of its replicas."""
    disks: Command = ("WAITAOF", 1, standing.replicas, _ON_DISK_WITHIN_MS)
    for _ in range(_DISK_TRIES):
        *_, answer = server.exchange([*commands, *standing.wait(SOON_MS), disks])
        if isinstance(answer, ResponseError):  # Redis before 7.2 has no level of durability that promises this
            is_older = str(answer).startswith("unknown command")
            return is_older, is_older
        own, replicas = answer
        if own and replicas >= standing.replicas:
            break
    return own > 0, replicas >= standing.replicas


def drop_left(source: Connections, place: str, left: Left, going_on: Callable[[], object] = lambda: None) -> None:
    """Drop what a place that has gone has left behind; `going_on` is called between. Raises as `settle`."""
    for keys in scanned(source, prefix_of(place)):
        some = [key for key in keys if is_of(key, place)]
        for at in range(0, len(some), DROPPED):
            asked(source, [_step(_DROP_LEFT, (SERVER, *some[at : at + DROPPED]), (place, left.text, ""))])
        going_on()
    asked(source, [_step(_DROP_LEFT, (SERVER,), (place, left.text, "1"))])


def drop_copies(
    target: Connections,
    place: str,
    token: str,
    *,
    is_last: bool,
    going_on: Callable[[], object] = lambda: None,
) -> bool:
    """Drop the copies of a place that a server expects from whoever has a token; it still does, unless `is_last`.

    Returns:
        Whether it did so before: else it may be there by now, or somebody else copies it.

    Raises: as `settle`.
    """
    for keys in scanned(target, prefix_of(place)):
        some = [key for key in keys if is_of(key, place)]
        for at in range(0, len(some), DROPPED):
            asked(target, [_step(_DROP_COPIES, (SERVER, *some[at : at + DROPPED]), (place, token, ""))])
        going_on()
    return bool(asked(target, [_step(_DROP_COPIES, (SERVER,), (place, token, "1" if is_last else ""))])[0])


def drop_begun(target: Connections, place: str, going_on: Callable[[], object]) -> None:
    """Drop what a mover that is no more has copied to a server, unless the place is there. Raises as `settle`."""
    token = uuid4().hex
    if asked(target, [_step(_EXPECT, (SERVER,), (place, token, ""))])[0] == 1:
        drop_copies(target, place, token, is_last=True, going_on=going_on)


def scanned(server: Connections, prefix: str) -> Iterator[list[bytes]]:
    """Keys of a server that begin with a prefix, a few at a time; some may come twice."""
    cursor = b"0"
    while True:
        (answer,) = asked(server, [("SCAN", cursor, "MATCH", f"{prefix}*", "COUNT", SCANNED)])
        cursor, found = answer
        yield found
        if cursor == b"0":
            return


def prefix_of(place: str) -> str:
    """The beginning of the keys of a place; for `HOME` others begin so, too."""
    return "wb:" if place == HOME else f"wb:{{{place}}}:"


def is_of(key: bytes, place: str) -> bool:
    """Whether a key belongs to a place, and goes with it."""
    return place_of(key.decode(errors="replace")) == place and key != SERVER.encode()


def _confirmation(place: str, left: Left) -> Command:
    return _step(_CONFIRM_LEFT, (SERVER, frozen_key(place)), (place, left.text))


def _arrival(place: str, left: Left) -> Command:
    return _step(_ARRIVE, (SERVER, *_versions(place)), (place, left.moves, left.mark, *LEAP))


def _versions(place: str) -> tuple[str, ...]:
    """The keys of what a place knows of versions: its clock, its term and its lapses."""
    of = None if place == HOME else partition_keys(int(place))
    return (of.clock, of.term, of.lapses) if of else ()


def _step(step: Script, keys: Sequence[str | bytes], arguments: Sequence[Any]) -> Command:
    return ("EVAL", step.source, len(keys), *keys, *arguments)
