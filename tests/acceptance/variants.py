"""Ways to run the same system that must make no difference: servers that fork, TLS to Redis, larger documents.

`VARIANT=preload,prefork,tls,large pytest tests/acceptance` runs the tests of this package on them; `make variants`
on each and on all together.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import pytest

from tests.tls import Authority, TlsFront
from writebehind.local.embedded import LOOPBACK
from writebehind.local.passwords import kept_password
from writebehind.local.procfile import default_procfile
from writebehind.local.stack import Stack
from writebehind.settings.running import STATE_FILE

PARTS = ("preload", "prefork", "tls", "large")
VARIANT = frozenset(filter(None, os.environ.get("VARIANT", "").split(",")))
#: Of what the service's own web server does, beyond serving the API.
own_server = pytest.mark.skipif(
    "preload" in VARIANT, reason="of the service's own web server: gunicorn serves the API"
)
#: How many processes they have.
WEB_PROCESSES, WORKER_PROCESSES = 4, 8
#: Above the size from which PyMongo hands documents over in another way, bytes.
LARGE = 5_000

GUNICORN = (
    f"gunicorn --preload --workers {WEB_PROCESSES} --threads 8 --log-level warning "
    '--graceful-timeout 3 --keep-alive 60 --bind "127.0.0.1:$WRITEBEHIND_PORT" "web.app:create_app()"'
)
_THREADS = re.compile(r"--pool threads --concurrency \d+")


def varied(
    procfile: str, variant: frozenset[str], redis_url: str = "", without: frozenset[str] = frozenset()
) -> str:
    """The lines of a Procfile in another way, without some processes."""
    lines = []
    for line in procfile.splitlines():
        name, colon, command = line.partition(": ")
        if line.startswith("#") or not colon or name in without:
            continue
        if "preload" in variant:
            command = command.replace("writebehind run web", GUNICORN)
        if "prefork" in variant:
            command = _THREADS.sub(f"--pool prefork --concurrency {WORKER_PROCESSES}", command)
        if redis_url:
            command = f"REDIS_URL='{redis_url}' {command}"
        lines.append(f"{name}: {command}")
    return "\n".join(lines)


def fill(variant: frozenset[str]) -> dict[str, str]:
    """Fields that make a document as large as the variant wants it."""
    return {"fill": "x" * LARGE} if "large" in variant else {}


def web_command(variant: frozenset[str]) -> list[str]:
    """What serves the API, as an own process."""
    if "preload" in variant:
        return ["/bin/sh", "-c", f"exec {GUNICORN}"]
    return [sys.executable, "-m", "writebehind", "run", "web"]


class VariedStack(Stack):
    """The whole system, run in a variant."""

    def __init__(
        self,
        variant: frozenset[str],
        data_dir: Path,
        *,
        env: Mapping[str, str],
        cwd: Path,
        procfile: Path | None = None,
        without: frozenset[str] = frozenset(),
        arguments: tuple[str, ...] = (),
    ) -> None:
        unknown = variant.difference(PARTS)
        if unknown:
            raise ValueError(f"no variant: {', '.join(sorted(unknown))}")
        self.variant, self._without = variant, without
        self._given = (procfile or default_procfile()).read_text()
        self._procfile = data_dir / "Procfile.varied"
        self.broker_url = env.get("BROKER_URL", "")
        self._redis_url = env.get("REDIS_URL", "")
        self._front = ExitStack()
        super().__init__(data_dir, env=env, cwd=cwd, arguments=(*arguments, "--procfile", str(self._procfile)))

    def start(self) -> Self:
        url = ""
        if "tls" in self.variant:
            authority = Authority(self.data_dir)
            front = self._front.enter_context(TlsFront(authority.server_context(), self._redis_port))
            # That which the system will find there, and keep.
            own = f"redis://:{kept_password(self.data_dir / 'redis' / 'password')}@{LOOPBACK}"
            url = authority.redis_url(front.port, self._redis_url or own)
        self._procfile.write_text(varied(self._given, self.variant, url, self._without))
        return super().start()

    def stop(self) -> int:
        try:
            return super().stop()
        finally:
            self._front.close()

    def _redis_port(self) -> int:
        """Where it is now: an embedded server may be elsewhere after its next start."""
        url = self._redis_url or json.loads((self.data_dir / STATE_FILE).read_text())["redis_url"]
        return urlsplit(url).port
