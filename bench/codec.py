"""CPU time of the codec, against `bson.json_util` in the same run: microseconds and their ratio."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import bson
from bson import Decimal128, Int64, ObjectId, json_util
from bson.codec_options import CodecOptions, DatetimeConversion

from bench.rows import Row, command
from tests.sizes import FOREIGN_LIMIT, LIMIT, THRESHOLDS, sized
from writebehind.documents import codec

_BATCHES = 15
_BATCH_S = 0.02
_DATE = datetime(2024, 2, 29, 12, 30, 15, 250_000, UTC)
_TINY = {"_id": "a", "n": 1}
_ORDER = {
    "_id": ObjectId("5f43a1b2c3d4e5f601234567"),
    "customer": {"name": "Zoë Ångström-O'Neill", "email": "zoe@example.com", "vip": True, "phone": None},
    "created": _DATE,
    "updated": _DATE,
    "total": Decimal128("1249.90"),
    "sequence": Int64(9_007_199_254_740_993),
    "balance": -12,
    "position": [59.3293235, -18.0685808],
    "note": 'Leave at the "blue" door — ring twice.\n' * 3,
    "tags": ["priority", "gift", "naïve", ""],
    "lines": [
        {
            "sku": f"SKU-{number:05}",
            "of": ObjectId(f"65e0775700a1b2c3d4e5f6{number:02}"),
            "count": number,
            "price": number * 9.99,
        }
        for number in range(8)
    ],
    "token": bytes(range(32)),
}

_OPTIONS = CodecOptions(tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_MS)
_JSON_OPTIONS = json_util.RELAXED_JSON_OPTIONS.with_options(tz_aware=True)


def main() -> list[Row]:
    """Print the table."""
    rows: list[Row] = []
    print(f"{'codec, µs of CPU per document':<42}{'writebehind':>12}{'json_util':>12}{'ratio':>8}")
    sizes = [("text", sized("a", size)) for size in (*THRESHOLDS, LIMIT, FOREIGN_LIMIT)]
    for name, document in (("tiny", _TINY), ("order", _ORDER), *sizes):
        body = codec.encode(document)
        text = codec.to_json(body)
        rows += _print_row(
            f"{name} ({len(body)} bytes): BSON to JSON",
            lambda body=body: codec.to_json(body),
            lambda body=body: json_util.dumps(bson.decode(body, _OPTIONS), json_options=_JSON_OPTIONS).encode(),
        )
        rows += _print_row(
            f"{name} ({len(text)} bytes): JSON to BSON",
            lambda text=text: codec.encode(codec.loads(text)),
            lambda text=text: bson.encode(json_util.loads(text, json_options=_JSON_OPTIONS)),
        )
    return rows


def _print_row(name: str, ours: Callable[[], bytes], theirs: Callable[[], bytes]) -> Iterator[Row]:
    mine, other = _microseconds(ours), _microseconds(theirs)
    print(f"{name:<42}{mine:>12.1f}{other:>12.1f}{other / mine:>7.1f}x")
    for contender, value in (("writebehind", mine), ("json_util", other)):
        yield Row(name, contender, "CPU per document", "µs", value)


def _microseconds(call: Callable[[], bytes]) -> float:
    """The least CPU time of a call over several batches: what disturbs a run only ever adds."""
    rounds = 1
    while (taken := _batch(call, rounds)) < _BATCH_S:
        rounds *= 2
    return min(taken, *(_batch(call, rounds) for _ in range(_BATCHES))) / rounds * 1e6


def _batch(call: Callable[[], bytes], rounds: int) -> float:
    start = time.process_time()
    for _ in range(rounds):
        call()
    return time.process_time() - start


if __name__ == "__main__":
    command("codec", main, __doc__)
