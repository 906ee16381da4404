"""A TCP proxy on loopback that cuts connections at a random byte of the request or of its answer."""

from __future__ import annotations

import asyncio
import random
import re
import threading
from collections import Counter
from typing import Self

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class CuttingProxy:
    """Passes one exchange of HTTP on each connection to `127.0.0.1:target`.

    Attributes:
        port: where it listens.
        counts: how many connections came to which end: `passed`, `request` and `answer` for what they were cut in,
            `unanswered` where the server has given no whole answer.
    """

    def __init__(self, target: int, cut: float, seed: int) -> None:
        """Describe it: it cuts this part of the connections, from 0 to 1."""
        self._target = target
        self._cut = cut
        self._dice = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cutting proxy", daemon=True)
        self.counts: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self._thread.start()
        server = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(server, self._loop).result()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for one in others:
            one.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        server: asyncio.StreamWriter | None = None
        try:
            request = await _whole_message(reader)
            answers, server = await asyncio.open_connection("127.0.0.1", self._target)
            fate = self._dice.choice(("request", "answer")) if self._dice.random() < self._cut else "passed"
            if fate == "request":
                server.write(request[: self._dice.randrange(len(request))])
                await server.drain()
            else:
                server.write(request)
                answer = await _whole_message(answers)
                client.write(answer if fate == "passed" else answer[: self._dice.randrange(len(answer))])
                await client.drain()
            self.counts[fate] += 1
        except (OSError, asyncio.IncompleteReadError):  # the server was killed, or is not there yet
            self.counts["unanswered"] += 1
        finally:
            client.close()
            if server is not None:
                server.close()


async def _whole_message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = _LENGTH.search(head)
    return head + await reader.readexactly(int(length[1]) if length else 0)
