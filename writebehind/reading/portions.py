"""Many documents, one after the other: how many are held at once depends on how large they are.

Redis has most of them, and they are small: they come in one round trip, which brings no more of each than its
share of a portion. Those that take more, or that Redis does not have, come by their sizes, which it tells first;
and one by one where a large one is among them that Redis does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import TypeVar

from writebehind.documents import large
from writebehind.documents.entry import BODY_AT
from writebehind.documents.ids import DocumentId
from writebehind.errors import RedisUnavailableError
from writebehind.redis.store import Store
from writebehind.sequences import slices

T = TypeVar("T")

#: About how many bytes the documents of a portion take.
PORTION_BYTES = 4 << 20
#: Documents that cannot take more than this in all are read together, without asking how large each is.
UNASKED_BYTES = 32 << 20
#: The bytes that a document of others may take, whatever clients may write.
OTHERS_BYTES = 16 << 20
#: The assumed bytes of a document whose size Redis does not know.
UNKNOWN_BYTES = PORTION_BYTES // 32
#: Documents that are read together as long as each takes less than its share of a portion, 32 KiB and more.
MOST_AT_ONCE = 128


def each(
    store: Store,
    ids: Sequence[DocumentId],
    short: Callable[[Sequence[DocumentId], int], Mapping[str, T]],
    read: Callable[[Sequence[DocumentId]], Sequence[T]],
) -> Iterator[T]:
    """Documents in their order, read when their turn comes.

    Args:
        store: tells how large they are.
        ids: the documents.
        short: reads those that Redis has and that take less than so many bytes, by member.
        read: reads some, wherever they are.

    Raises:
        TakesMuchError: one is so large that this thread may not read it.
        Exception: what `short` and `read` raise.
    """
    if len(ids) * OTHERS_BYTES <= UNASKED_BYTES and not large.is_bounded():
        yield from read(ids)
        return
    for some in slices(ids, MOST_AT_ONCE):
        try:
            found = short(some, min(PORTION_BYTES // len(some), BODY_AT + large.most() + 1))
        except RedisUnavailableError:  # whoever reads the others finds out
            found = {}
        others = by_size(store, [one for one in some if one.member not in found], read)
        for one in some:
            yield found[one.member] if one.member in found else next(others)


def by_size(
    store: Store, ids: Sequence[DocumentId], read: Callable[[Sequence[DocumentId]], Sequence[T]]
) -> Iterator[T]:
    """The same, where nothing is known of how large they are."""
    for some in portions(store, ids):
        try:
            with large.bounded(min(large.most(), large.LARGE_BYTES)) if len(some) > 1 else nullcontext():
                found = read(some)
        except large.TakesMuchError:
            if large.is_bounded():
                raise
            for one in some:
                yield from read([one])
        else:
            yield from found


def portions(store: Store, ids: Sequence[DocumentId]) -> Iterator[Sequence[DocumentId]]:
    """Documents to be read together, in their order, by their sizes.

    Raises:
        TakesMuchError: one is so large that this thread may not read it.
    """
    if not ids:
        return
    try:
        sizes = store.cache.sizes([one.member for one in ids])
    except RedisUnavailableError:  # whoever reads them finds out
        sizes = [0] * len(ids)
    large.see(max(sizes) - BODY_AT)
    portion: list[DocumentId] = []
    expected = 0
    for one, size in zip(ids, sizes, strict=True):
        takes = PORTION_BYTES if size - BODY_AT > large.LARGE_BYTES else size or UNKNOWN_BYTES
        if portion and expected + takes > PORTION_BYTES:
            yield portion
            portion, expected = [], 0
        portion.append(one)
        expected += takes
    if portion:
        yield portion
