"""What Redis's allocators give."""

from __future__ import annotations

import pytest

from writebehind.planning.allocation import allocated, string


@pytest.mark.parametrize(
    ("size", "given"),
    [
        (1, 16),
        (16, 16),
        (17, 32),
        (128, 128),
        (129, 160),
        (256, 256),
        (257, 320),
        (1_055, 1_280),
        (60_055, 65_536),
    ],
)
def test_jemalloc_has_four_classes_to_each_power_of_two(size, given):
    """As its manual lists them."""
    assert given == allocated(size, "jemalloc")


@pytest.mark.parametrize(("size", "given"), [(1, 24), (24, 24), (25, 40), (1_000, 1_000), (1_001, 1_016)])
def test_libc_gives_steps_of_16_bytes(size, given):
    """As `malloc_usable_size` says of glibc."""
    assert given == allocated(size, "libc")


def test_strings_have_a_header():
    """It grows with the string."""
    assert [(255, 272), (256, 272), (65_535, 65_552), (65_536, 65_568)] == [
        (length, string(length, "libc") + 8) for length in (255, 256, 65_535, 65_536)
    ]
