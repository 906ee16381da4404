"""Requests of the demo to the API."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import httpx

from writebehind.demo.errors import DemoError, InterruptedDemoError

#: How long one request is tried again, seconds.
PATIENCE_S = 60.0
#: Longer than a write with durability `persisted` waits by itself, seconds.
ANSWER_S = 20.0
#: Between two looks whether the demo is stopped, seconds.
STEP_S = 0.2
UNAVAILABLE = 503
#: Problems that say that nothing was written. After any other a write may have happened.
NOT_WRITTEN = {
    f"urn:problem-type:writebehind:{name}"
    for name in (
        *(
            "partition-full",
            "receipts-full",
            "redis-memory",
            "redis-full",
            "redis-not-ready",
            "wrong-installation",
        ),
        *("dead-letters", "mongodb-unavailable", "service-unavailable"),
    )
}


class Sender:
    """One connection to the API. It tries again where nothing can be written twice by that."""

    def __init__(self, url: str, stopped: Callable[[], bool]) -> None:
        """Describe it; `stopped` tells whether to give up."""
        # Proxies from the environment are not for a server on this machine.
        self._http = httpx.Client(base_url=url, timeout=ANSWER_S, trust_env=False)
        self._stopped = stopped
        self.retries = 0

    def send(
        self,
        method: str,
        path: str,
        *,
        text: str | None = None,
        headers: dict[str, str] | None = None,
        expected: Sequence[int] = (200, 201, 202, 204),
        repeatable: bool = False,
    ) -> httpx.Response:
        """Send a request until it is answered.

        Args:
            method: of the request.
            path: of the request, with its parameters.
            text: its body.
            headers: more headers.
            expected: the statuses that the caller can handle.
            repeatable: whether sending it twice does what sending it once does. Reads always are.

        Raises:
            DemoError: the answer is lost, or is another.
            InterruptedDemoError: the demo has been stopped.
        """
        content = None if text is None else text.encode()
        deadline = time.monotonic() + PATIENCE_S
        while True:
            answer = self._once(method, path, content, headers, repeatable or method == "GET")
            if answer is not None and answer.status_code in expected:
                return answer
            if answer is not None and not self._may_repeat(answer, repeatable or method == "GET"):
                raise DemoError(f"{method} {path} was answered {answer.status_code}: {answer.text[:500]}")
            if time.monotonic() > deadline:
                raise DemoError(f"{method} {path} is not answered for {PATIENCE_S:.0f} s")
            self.retries += 1
            self._pause(1.0 if answer is None else float(answer.headers.get("Retry-After", 1)))

    def wait(self, seconds: float) -> None:
        """Wait as long as a server that refused something for now asks."""
        self.retries += 1
        self._pause(seconds)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _once(
        self, method: str, path: str, content: bytes | None, headers: dict[str, str] | None, repeatable: bool
    ) -> httpx.Response | None:
        """The answer, or `None` where it is lost and the request may be sent again."""
        self._pause(0)
        try:
            return self._http.request(method, path, content=content, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout):  # the request was not sent
            return None
        except httpx.TransportError as error:
            # After a timeout the first request may still be under way, and come after the second.
            if repeatable and not isinstance(error, httpx.TimeoutException):
                return None
            raise DemoError(f"{method} {path}: the answer is lost: {error!r}") from error

    @staticmethod
    def _may_repeat(answer: httpx.Response, repeatable: bool) -> bool:
        return answer.status_code == UNAVAILABLE and (repeatable or answer.json().get("type") in NOT_WRITTEN)

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stopped() and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, STEP_S))
        if self._stopped():
            raise InterruptedDemoError
