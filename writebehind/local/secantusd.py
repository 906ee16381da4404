"""Runs SecantusDB as this process: `python -P secantusd.py OPTIONS`, with its own options.

Its main thread waits without an end: were SIGTERM delivered to another thread, it would not wake up to handle it.
So all threads block it but one, which wakes that one by what it handles in the same way.

With `--auth` the first line on standard input is the password of the user `writebehind`, who may do everything.
SecantusDB itself has users made only by clients, the first one while it asks nobody for a password.
"""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any

#: Whom the server lets in.
USER = "writebehind"


def main() -> None:
    """Be the server.

    Raises:
        SystemExit: it has ended, with this status.
    """
    # Before anything else can start a thread, which would take the signal and wake nobody.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_relay, name="relay", daemon=True).start()
    from secantus import auth, cli  # noqa: PLC0415 - part of an extra, and of this process alone

    class Guarded(cli.SecantusDBServer):  # type: ignore[misc]  # SecantusDB has no types
        """One that knows its user before it listens."""

        def start(self, *arguments: Any, **options: Any) -> Any:
            if self.require_auth:
                self.storage.add_user("admin", USER, _record(auth, sys.stdin.readline().strip()), replace=True)
            return super().start(*arguments, **options)

    cli.SecantusDBServer = Guarded
    sys.exit(cli.main())


def _record(auth: Any, password: str) -> dict[str, Any]:
    """The user as the command `createUser` keeps it."""
    return {
        "_id": f"admin.{USER}",
        "user": USER,
        "db": "admin",
        "credentials": auth.derive_credentials(password).to_doc(),
        "roles": [{"role": "root", "db": "admin"}],
        "mechanisms": ["SCRAM-SHA-256"],
    }


def _relay() -> None:
    signal.sigwait({signal.SIGTERM})
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


if __name__ == "__main__":
    main()
