"""Large documents: a process works on one at a time, in a thread that is there for them.

Which document is large shows when it is read: the request is then begun anew in that thread, and the next one
begins there. See `writebehind.documents.large`.
"""

from __future__ import annotations

import ctypes
from collections import OrderedDict
from typing import Final

#: What is known to be about large documents: so many requests, those asked last.
_MOST_KNOWN: Final = 1_000
_LONGEST_KNOWN: Final = 1_000
#: Blocks from this size on go back to the system when they are free, bytes. By itself glibc takes the largest one
#: that was freed for the limit, up to 32 MiB, and keeps those below: hundreds of megabytes after large documents.
_RETURNED_BYTES: Final = 1 << 20
_M_MMAP_THRESHOLD: Final = -3


def return_large_blocks() -> None:
    """Have the C library, where it is glibc, give the memory of large blocks back as soon as they are free."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _RETURNED_BYTES)


class Known:
    """Requests that were about large documents. All calls are made in one event loop."""

    def __init__(self) -> None:
        self._targets: OrderedDict[bytes, None] = OrderedDict()

    def __contains__(self, target: bytes) -> bool:
        return target in self._targets

    def add(self, target: bytes) -> None:
        """Remember what a request asks for, in the place of what was asked for longest ago."""
        if len(target) <= _LONGEST_KNOWN:
            self._targets[target] = None
            self._targets.move_to_end(target)
            if len(self._targets) > _MOST_KNOWN:
                self._targets.popitem(last=False)

    def forget(self, target: bytes) -> None:
        """Note that it is not about a large document any longer."""
        self._targets.pop(target, None)
