"""Large documents: a process that serves many at once reads them in one place, one at a time.

Such documents are others', as clients may write none above `max_document_bytes`. Each takes many times its bytes,
so that a few at once would take the memory of the process. Whoever serves others bounds what a thread may read. A
document shows to be larger before it is read, or before anything is made of it, and the thread lets go of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

#: A document of more bytes, with its version, is large: clients may write none unless the settings say so.
LARGE_BYTES: Final = (1 << 20) + 1_024
#: More than any document has.
_ANY_BYTES: Final = 1 << 62

_most: ContextVar[int] = ContextVar("most", default=_ANY_BYTES)


class TakesMuchError(BaseException):
    """A document is larger than this thread may read. No handler of errors is to answer it."""


@contextmanager
def bounded(most_bytes: int = _ANY_BYTES) -> Iterator[None]:
    """Let this thread read no document that has more bytes, as BSON; by default every one."""
    before = _most.set(most_bytes)
    try:
        yield
    finally:
        _most.reset(before)


def is_bounded() -> bool:
    """Whether this thread may not read every document."""
    return _most.get() < _ANY_BYTES


def most() -> int:
    """The bytes that a document may have which this thread reads."""
    return _most.get()


def see(size: int) -> None:
    """See that this thread may read a document of so many bytes.

    Raises:
        TakesMuchError: it may not.
    """
    if size > _most.get():
        raise TakesMuchError
