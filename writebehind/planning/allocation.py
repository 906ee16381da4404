"""Bytes that Redis's allocators give for what is asked of them."""

from __future__ import annotations

from typing import Literal

Allocator = Literal["jemalloc", "libc"]

#: Header and end of a string in Redis (`sds.h`), by the most bytes that such a one has.
_HEADERS = ((1 << 8, 4), (1 << 16, 6), (1 << 32, 10))
#: jemalloc: steps of 16 bytes up to here, then four to each power of two. https://jemalloc.net/jemalloc.3.html#size_classes
_STEP, _EVEN_UNTIL, _TO_EACH_POWER = 16, 128, 4
#: glibc's malloc: a word before each piece, and the least piece.
_WORD, _LEAST = 8, 24


def string(length: int, allocator: Allocator) -> int:
    """Bytes that a string of so many takes."""
    header = next(header for most, header in _HEADERS if length < most)
    return allocated(length + header, allocator)


def allocated(size: int, allocator: Allocator) -> int:
    """Bytes that the allocator gives, and Redis counts in `used_memory`, for this many."""
    if allocator == "libc":
        return max(_LEAST, _up(size + _WORD, _STEP) - _WORD)
    if size <= _EVEN_UNTIL:
        return _up(size, _STEP)
    power = 1 << (size - 1).bit_length() - 1
    return _up(size, power // _TO_EACH_POWER)


def _up(size: int, step: int) -> int:
    return -(-size // step) * step
