"""Documents for patches and increments, and values that stand for each type of BSON."""

from __future__ import annotations

from datetime import UTC, datetime

from bson import Binary, Code, DatetimeMS, DBRef, Decimal128, Int64, ObjectId, Regex
from hypothesis import settings
from hypothesis import strategies as st

from tests.bson_strategies import of_all_sizes, values
from tests.tiers import examples
from writebehind.documents.patches import json_patch

MORE = settings(max_examples=examples(200))
MOST_BYTES = 100_000

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=10,
)
names = st.sampled_from(["a", "b", "0", "1", "-", "01", "", "x~1y", "m~0n", "$oid", "_id", "\u0661", "9" * 5000])

#: Documents in which pointers of these names find something.
small_documents = st.dictionaries(
    st.sampled_from(["a", "b", "0", "", "x/y", "m~n"]),
    st.recursive(
        values,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "0"]), inner, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=4,
)

small_documents = of_all_sizes(small_documents)

#: One value of each BSON type that JSON does not have.
TYPED = {
    "int64": Int64(1),
    "oid": ObjectId("5f43a1b2c3d4e5f601234567"),
    "decimal": Decimal128("1.10"),
    "date": datetime(2020, 1, 2, tzinfo=UTC),
    "far": DatetimeMS(1 << 60),
    "binary": Binary(b"\0\1", 5),
    "bytes": b"\0\1",
    "regex": Regex("a", "i"),
    "code": Code("x", {"y": Int64(1)}),
    "ref": DBRef("c", ObjectId("5f43a1b2c3d4e5f601234567"), extra={"n": Int64(2)}),
}


def patched(document: dict, *ops: dict) -> dict:
    return json_patch(list(ops), most_bytes=MOST_BYTES)(document)
