"""Messages that wait in the queues of the broker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from writebehind.celery.configuration import create_app
from writebehind.celery.names import QUEUES
from writebehind.settings.installation import Settings

#: Of AMQP: there is no such queue.
_NOT_FOUND = "404"


class QueueDepths:
    """Asks the broker of the settings, by one connection that is kept. For one thread."""

    def __init__(self, settings: Settings) -> None:
        """Prepare to ask; nothing is connected yet.

        Raises:
            ConfigurationError: Celery has no transport for the broker.
        """
        self._app = create_app(settings)
        self._connection: Any = None

    def __call__(self) -> Mapping[str, int]:
        """The number of messages that wait in each queue; those that a worker holds are not among them.

        A queue is missing that the broker does not have yet.

        Raises:
            Exception: what the transport fails with; the next call connects anew.
        """
        if self._connection is None:
            self._connection = self._app.connection_for_read()
        try:
            found = {queue: _size(self._connection, queue) for queue in QUEUES}
        except Exception:
            self.close()
            raise
        return {queue: size for queue, size in found.items() if size is not None}

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()


def _size(connection: Any, queue: str) -> int | None:
    channel = connection.default_channel
    if hasattr(channel, "conn_or_acquire"):  # on Redis a queue without messages does not exist
        return int(channel._size(queue))  # noqa: SLF001 - kombu has no other way
    # RabbitMQ closes the channel on which a queue is asked for that nobody has declared.
    with connection.channel() as own:
        try:
            return int(own.queue_declare(queue, passive=True).message_count)
        except connection.channel_errors as error:
            if str(getattr(error, "reply_code", "")) != _NOT_FOUND:
                raise
            return None
