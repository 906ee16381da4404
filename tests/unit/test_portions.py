"""How many documents are read at once depends on how large they are, not on how large clients may make them."""

from __future__ import annotations

from writebehind.ids import DocumentId
from writebehind.portions import portions

MIB = 1 << 20


class Sizes:
    """What Redis says of how large documents are."""

    def __init__(self, size: int) -> None:
        self._size = size

    def sizes(self, members: list[str]) -> list[int]:
        return [self._size] * len(members)


def test_large_documents_of_others_are_read_one_by_one():
    """A bound on what clients write is none on what others have written."""
    ids = [DocumentId.stored("users", str(n)) for n in range(3)]

    assert [[one] for one in ids] == [list(some) for some in portions(Sizes(15 * MIB), ids, most_bytes=MIB)]
    assert [ids] == [list(some) for some in portions(Sizes(MIB), ids, most_bytes=MIB)]
