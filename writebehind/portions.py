"""Many documents in portions: how many are held at once depends on how large they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from writebehind.errors import RedisUnavailableError
from writebehind.ids import DocumentId
from writebehind.store import Store

#: About how many bytes the documents of a portion take.
PORTION_BYTES = 4 << 20
#: Documents that cannot take more than this in all are read together, without asking how large each is.
UNASKED_BYTES = 32 << 20
#: What a document of others may take, whatever clients may write.
OTHERS_BYTES = 16 << 20
#: What a document counts for of which Redis does not know how large it is.
UNKNOWN_BYTES = PORTION_BYTES // 32


def portions(store: Store, ids: Sequence[DocumentId], *, most_bytes: int) -> Iterator[Sequence[DocumentId]]:
    """Documents to be read together, in their order; `most_bytes` is what clients may write."""
    if len(ids) * max(most_bytes, OTHERS_BYTES) <= UNASKED_BYTES:
        yield ids
        return
    try:
        sizes = store.sizes([one.member for one in ids])
    except RedisUnavailableError:  # whoever reads them finds out
        sizes = [0] * len(ids)
    portion: list[DocumentId] = []
    expected = 0
    for one, size in zip(ids, sizes, strict=True):
        takes = size or UNKNOWN_BYTES
        if portion and expected + takes > PORTION_BYTES:
            yield portion
            portion, expected = [], 0
        portion.append(one)
        expected += takes
    if portion:
        yield portion
