"""Servers that writes do not go to: replicas, and the Sentinels that choose among them. Operators ask them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from redis.connection import Connection, SSLConnection
from redis.exceptions import RedisError, ResponseError

from writebehind.errors import RedisUnavailableError, told, without_frames
from writebehind.redis.connections import Command, connection_options, reason
from writebehind.redis.topology.addresses import SENTINEL, many_servers, named_servers

#: Time that one has to answer, ms.
ASKED_MS = 1_000

Place = tuple[str, int]


class Peers:
    """Replicas and Sentinels of the servers that a URL names, reached with the same login and TLS."""

    def __init__(self, url: str) -> None:
        """Take a well-formed URL; nothing is opened yet."""
        self._many = many_servers(url)
        options = connection_options(self._many.url if self._many else url, ASKED_MS)
        is_tls = options.pop("connection_class", None) is SSLConnection
        self._class = SSLConnection if is_tls else Connection
        options.pop("path", None)
        #: The name by which Sentinels know the servers; '' where none watch.
        self.service = self._many.service if self._many else ""
        self._options = options

    def ask(self, place: Place, commands: Sequence[Command]) -> list[Any]:
        """Answers of a replica; a `ResponseError` for a command that it refuses.

        Raises:
            RedisUnavailableError: it does not answer.
        """
        return self._ask(place, self._options, commands)

    def sentinels(self) -> dict[str, Mapping[str, str] | RedisUnavailableError]:
        """Knowledge of each Sentinel about the servers that it watches, by its name; or why it has none."""
        if self._many is None or self._many.kind != SENTINEL:
            return {}
        kept = {name: one for name, one in self._options.items() if name.startswith(("ssl_", "socket_", "retry"))}
        options = {**kept, **self._many.sentinel, "protocol": 2}
        found: dict[str, Mapping[str, str] | RedisUnavailableError] = {}
        for host, port in self._many.hosts:
            try:
                (answer,) = self._ask((host, port), options, [("SENTINEL", "MASTER", self.service)])
            except RedisUnavailableError as error:
                found[f"{host}:{port}"] = error
            else:
                found[f"{host}:{port}"] = (
                    RedisUnavailableError(told(answer)) if isinstance(answer, ResponseError) else paired(answer)
                )
        return found

    def _ask(self, place: Place, options: Mapping[str, Any], commands: Sequence[Command]) -> list[Any]:
        connection = self._class(**{**options, "host": place[0], "port": place[1]})
        try:
            connection.connect()  # type: ignore[no-untyped-call]
            return [_answer(connection, command) for command in commands]
        except (RedisError, OSError) as error:
            name = f"{place[0]}:{place[1]}"
            raise RedisUnavailableError(f"{name} does not answer", inner=reason(error)) from error
        finally:
            connection.disconnect()  # type: ignore[no-untyped-call]


def peers_of(url: str) -> dict[str, Peers]:
    """Peers of each server of a list by its name; of any other URL by ''."""
    return {name: Peers(one) for name, one in (named_servers(url) or {"": url}).items()}


def replicas_of(facts: Mapping[str, str]) -> Iterator[Place]:
    """Places of the replicas that a server's INFO names."""
    for at in range(int(facts.get("connected_slaves", "0"))):
        one = dict(part.partition("=")[::2] for part in facts.get(f"slave{at}", "").split(","))
        if one.get("ip") and one.get("port", "").isdecimal():
            yield one["ip"], int(one["port"])


def paired(answer: Sequence[bytes]) -> dict[str, str]:
    """Names and values that a server has sent in turn."""
    texts = [one.decode(errors="replace") for one in answer]
    return dict(zip(texts[::2], texts[1::2], strict=False))


def _answer(connection: Connection, command: Command) -> Any:
    connection.send_command(*command)  # type: ignore[no-untyped-call]
    try:
        return connection.read_response()
    except ResponseError as error:
        return without_frames(error)
