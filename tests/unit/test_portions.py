"""How many documents are read at once depends on how large they are, not on how large clients may make them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from writebehind.documents.ids import DocumentId
from writebehind.errors import RedisUnavailableError
from writebehind.reading.portions import MOST_AT_ONCE, PORTION_BYTES, UNKNOWN_BYTES, each, portions

MIB = 1 << 20


class Redis:
    """What Redis has: documents by their sizes; and how many bytes of documents were read together, each time."""

    def __init__(self, sizes: dict[str, int], *, answers: bool = True) -> None:
        self._sizes = sizes
        self.cache = self
        self._answers = answers
        self.ids = [DocumentId.of("users", name) for name in sizes]
        self.short_reads: list[int] = []
        self.reads: list[list[str]] = []

    def sizes(self, members: Sequence[str]) -> list[int]:
        return [self._sizes[self._name(member)] for member in members]

    def short(self, ids: Sequence[DocumentId], below_bytes: int) -> dict[str, str]:
        if not self._answers:
            raise RedisUnavailableError
        sizes = {one.member: self._sizes[one.text] for one in ids}
        self.short_reads.append(sum(min(size, below_bytes) for size in sizes.values()))
        return {member: self._name(member) for member, size in sizes.items() if 0 < size < below_bytes}

    def read(self, ids: Sequence[DocumentId]) -> list[str]:
        self.reads.append([one.text for one in ids])
        return self.reads[-1]

    def all(self) -> list[str]:
        return list(each(self, self.ids, self.short, self.read))

    @staticmethod
    def _name(member: str) -> str:
        return member.partition(":")[2]


def test_large_documents_of_others_are_read_one_by_one():
    """A bound on what clients write is none on what others have written."""
    large, small = (Redis({str(n): size for n in range(3)}) for size in (15 * MIB, MIB))

    assert [[one] for one in large.ids] == [list(some) for some in portions(large, large.ids)]
    assert [small.ids] == [list(some) for some in portions(small, small.ids)]


@pytest.mark.parametrize("count", [3, 100, MOST_AT_ONCE])
def test_small_documents_are_read_at_once(count):
    """So many as take their share of a portion, without a look at their sizes before."""
    redis = Redis({str(n): PORTION_BYTES // count - 1 for n in range(count)})

    assert list(map(str, range(count))) == redis.all()
    assert (1, []) == (len(redis.short_reads), redis.reads)


@pytest.mark.parametrize("answers", [True, False])
def test_documents_of_all_sizes_come_in_their_order(answers):
    """Whatever their sizes are, and whether Redis has them: never more than a portion at once, or one document."""
    sizes = [500, 0, 40_000, 8_000, 15 * MIB, 100, 4 * MIB, 0, 1, PORTION_BYTES // MOST_AT_ONCE]
    redis = Redis({str(n): sizes[n % len(sizes)] for n in range(3 * MOST_AT_ONCE)}, answers=answers)

    assert [one.text for one in redis.ids] == redis.all()
    assert all(size <= PORTION_BYTES for size in redis.short_reads)
    for some in redis.reads:
        assert len(some) == 1 or PORTION_BYTES >= sum(sizes[int(n) % len(sizes)] or UNKNOWN_BYTES for n in some)


def test_what_nobody_asks_for_any_more_is_not_read():
    """An answer ends where it has enough."""
    redis = Redis({str(n): MIB for n in range(MOST_AT_ONCE)})

    documents = each(redis, redis.ids, redis.short, redis.read)

    assert ["0", "1"] == [next(documents), next(documents)]
    assert [["0", "1", "2", "3"]] == redis.reads
