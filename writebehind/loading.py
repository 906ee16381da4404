"""Modules are loaded without looking for garbage among them."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Within it nothing is collected, and what is there at its end never is.

    Only for a process that is ours. What modules define stays, and is much: to look through it again and again
    took a quarter of a command's start.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
