"""Files that are damaged, or other hands': they take no figure of the others away, and become none of theirs."""

from __future__ import annotations

import json
import struct
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from writebehind.operations.doctor import Level, counts
from writebehind.tallies import directory, families
from writebehind.tallies.directory import Directory
from writebehind.tallies.tallies import Tallies

ONE = (families.WRITES.name, ("users",))
TIMES = families.READ_TIMES
OTHERS = (families.READS, families.READ_TIMES, families.IN_PROGRESS, families.LOST_WRITES)


def count_one(path: Path) -> None:
    """Let a process have counted a write, and have ended."""
    tallies = Tallies(path)
    tallies.add(families.WRITES, ("users",))
    tallies.close()


def whole() -> bytes:
    """The content of a file with series of other families."""
    with TemporaryDirectory() as path:
        tallies = Tallies(Path(path))
        for family in OTHERS:
            tallies.place(family, ("x",) * len(family.labels))
        tallies.close()
        (file,) = Path(path).glob("*.tally")
        (used,) = struct.unpack_from("=Q", file.read_bytes(), 8)
        return file.read_bytes()[:used]


WHOLE = whole()


def file_of(*series: tuple[Any, int, bytes]) -> bytes:
    """A file with these series: what stands in the place of the name, as JSON; how many numbers; and these."""
    body = b""
    for name, slots, numbers in series:
        text = json.dumps(name).encode()
        text += b" " * (-len(text) % 8)
        body += struct.pack("=II", len(text), slots) + text + numbers
    return b"WBTALLY2" + struct.pack("=Q", 16 + len(body)) + body


def flipped(places: list[int]) -> bytes:
    content = bytearray(WHOLE)
    for place in places:
        at, bit = divmod(place % (8 * len(content)), 8)
        content[at] ^= 1 << bit
    return bytes(content)


shapes = st.sampled_from([one.shape for one in OTHERS] + ["", "counter", "gauge collection,x 0", "counter  0"])
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | shapes,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=6,
)
names = anything | st.tuples(
    st.sampled_from(["", *(one.name for one in OTHERS)]) | anything,
    st.lists(st.just("x"), max_size=4) | anything,
    shapes | anything,
)
series = names.flatmap(
    lambda name: st.lists(st.floats(), max_size=25).map(
        lambda numbers: (name, len(numbers), struct.pack(f"={len(numbers)}d", *numbers))
    )
)
contents = st.one_of(
    st.binary(max_size=200),
    st.binary(max_size=200).map(lambda rest: b"WBTALLY2" + rest),
    st.integers(0, len(WHOLE) - 1).map(lambda end: WHOLE[:end]),
    st.lists(st.integers(0, 8 * len(WHOLE)), min_size=1, max_size=4).map(flipped),
    st.lists(series, max_size=3).map(lambda several: file_of(*several)),
)
UNHASHABLE = file_of((["writebehind_writes", [["x"]], "counter"], 1, bytes(8)))


@given(contents)
@example(UNHASHABLE)
@example(file_of((["new", [], "counter collection, 0"], 1, bytes(8))))
@example(file_of(([families.WRITES.name, ["x"], families.WRITES.shape], 0, b"")))
@example(file_of(([families.WRITES.name, ["x"], families.WRITES.shape], 1, struct.pack("=d", -1))))
@example(file_of(([TIMES.name, ["x", "hit"], TIMES.shape], TIMES.slots, struct.pack("=d", 0.5) * TIMES.slots)))
def test_any_file_takes_nothing_from_others(content):
    """Whoever reads, and whoever adds up, finds what the others have counted, and whole series besides."""
    with TemporaryDirectory() as made, pytest.MonkeyPatch.context() as patch:
        path = Path(made)
        patch.setattr(directory, "MOST_ENDED", 1)
        for number in range(1, 4):
            count_one(path)
            (path / "0-other.tally").write_bytes(content)
            found = Directory(path).read()

            assert [number] == found[ONE]
            for (name, labels), numbers in found.items():
                family = families.FAMILIES[name]
                assert (len(family.labels), family.slots) == (len(labels), len(numbers))
                assert all(isinstance(one, str) for one in labels)
                assert all(map(isfinite, numbers))
                if family.kind is not families.Kind.LIVE:  # else the page would be none that Prometheus may take
                    assert min(numbers) >= 0
                    assert all(map(float.is_integer, numbers[1:]))


def test_it_is_said_once_which_file_is_left_out(tmp_path, caplog):
    """Also by the doctor; and once more when it was mended, and is damaged again."""
    count_one(tmp_path)
    other = tmp_path / "x.tally"
    one = Directory(tmp_path)
    for _ in range(2):
        other.write_bytes(UNHASHABLE)
        for _ in range(3):
            assert {ONE: [1]} == one.read()
        found = counts.counts(tmp_path)
        assert (Level.WARNING, True) == (found.level, "x.tally: " in found.found)
        other.unlink()
        assert {ONE: [1]} == one.read()

    said = [line.message for line in caplog.records if line.event == "counts_damaged"]
    assert 2 + 2 == len(said)  # of the reader, and of two doctors
    assert all(str(other) in line for line in said)
    assert Level.OK is counts.counts(tmp_path).level


def test_a_file_that_may_not_be_read_is_left_out(tmp_path, monkeypatch, caplog):
    """As one of another user, which keeps nobody from the figures of the others."""
    count_one(tmp_path)
    (tmp_path / "x.tally").touch()
    true = directory.read_file

    def read_file(path: Path) -> Any:
        if path.name == "x.tally":
            raise PermissionError(13, "Permission denied", str(path))
        return true(path)

    monkeypatch.setattr(directory, "read_file", read_file)
    assert {ONE: [1]} == Directory(tmp_path).read()
    assert "Permission denied" in caplog.text


def test_a_file_that_has_nothing_left_goes_when_its_process_is_gone(tmp_path):
    """The next one that begins removes it; it leaves that of a process that lives, whose look makes another."""
    alive, ended = Tallies(tmp_path), Tallies(tmp_path)
    for one in (alive, ended):
        one.add(families.WRITES, ("users",))
    of_alive, of_ended = (tmp_path / f"{one._memory.name}.tally" for one in (alive, ended))
    ended.close()
    for one in (of_alive, of_ended):
        one.write_bytes(b"")

    count_one(tmp_path)

    assert (True, False) == (of_alive.exists(), of_ended.exists())
