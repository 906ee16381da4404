"""Children of a test."""

from __future__ import annotations

import os
import socket

import pytest


@pytest.fixture
def child_of():
    """Fork, act in the child, and keep it alive to the end of the test."""
    children = []

    def fork(act) -> None:
        ours, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            try:
                ours.close()
                act()
                theirs.sendall(b"x")
                theirs.recv(1)
            finally:
                os._exit(0)
        theirs.close()
        children.append((child, ours))
        assert ours.recv(1)

    yield fork
    for child, ours in children:
        ours.close()
        os.waitpid(child, 0)
