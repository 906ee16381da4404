"""The whole system under a process of its own, for as long as a `with` block lasts, as the demo has it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from writebehind.local.output import private_directory, private_file
from writebehind.local.supervisor import Group, bound_to_parent, end
from writebehind.local.up import NotReadyError
from writebehind.settings.running import STATE_FILE, state_of


class Stack:
    """The whole system under a process of its own, for as long as a `with` block lasts.

    On Linux it is stopped also when the thread that started it ends.
    """

    def __init__(
        self,
        data_dir: str | Path,
        port: int = 0,
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        arguments: tuple[str, ...] = (),
    ) -> None:
        """Describe it: more variables for its environment, and more arguments for `writebehind up`."""
        self.data_dir = Path(data_dir).absolute()
        self._arguments = ["--json", "--quiet", "--port", str(port), "--data-dir", str(self.data_dir), *arguments]
        self._env = {**os.environ, **(env or {})}
        self._cwd = cwd
        self.url = self.redis_url = self.mongodb_url = self.mongodb_database = ""

    def start(self) -> Self:
        """Start everything and wait until it is ready.

        Raises:
            NotReadyError: it does not become ready; the message says why.
        """
        log_file = self.data_dir / "log" / "up.log"
        command = [sys.executable, "-P", "-m", "writebehind", "up", *self._arguments]
        try:
            if not self.data_dir.is_dir():
                private_directory(self.data_dir)
            private_directory(log_file.parent)
            opened = private_file(log_file, "wb")
        except OSError as error:
            raise NotReadyError(f"the data directory cannot be used: {error}") from error
        with opened as log:
            leader = subprocess.Popen(  # noqa: S603 - the command is ours
                bound_to_parent(command),
                cwd=self._cwd,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                text=True,
            )
        self._group = Group(leader)
        with leader.stdout as answer:  # type: ignore[union-attr]  # it is a pipe
            line = answer.readline()
        if not line:
            self.stop()
            raise NotReadyError(log_file.read_text("utf-8", "replace").strip())
        about = {**json.loads(line), **(state_of(self.data_dir) or {})}
        self.url = about.get("url", "")
        # What it prints has no passwords: its file has those of its own servers, and it was told the others.
        self.redis_url = self._env.get("REDIS_URL") or about["redis_url"]
        self.mongodb_url = self._env.get("MONGODB_URL") or about["mongodb_url"]
        self.mongodb_database = about["mongodb_database"]
        return self

    def stop(self) -> int:
        """Stop everything; return the exit status."""
        # Longer than everything below it takes in the worst case.
        end([self._group], grace_s=60)
        return int(self._group.leader.returncode)

    def pids(self) -> dict[str, int]:
        """The ids of the servers and processes that run now, by name; they change when one is started anew."""
        return dict(json.loads((self.data_dir / STATE_FILE).read_text("utf-8"))["pids"])

    @property
    def pid(self) -> int:
        """The id of the process that all others are started by."""
        return self._group.leader.pid

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
