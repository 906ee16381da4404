"""CPU time of a put with and without recent writes being kept, beside a real replica."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median

from tests.topologies import Watched
from tests.waiting import wait_until
from writebehind import Settings, connect

PUTS, ROUNDS = 1_000, 40
BODY = {"text": "x" * 500}


def microseconds(users) -> float:
    """CPU time of this process for one put."""
    start = time.process_time()
    for n in range(PUTS):
        users.put(f"u{n}", BODY)
    return (time.process_time() - start) / PUTS * 1e6


def main() -> None:
    """Take turns: kept, not kept, and not kept once more, which says how far apart equal ones are."""
    with tempfile.TemporaryDirectory() as directory:
        primary = Watched(Path(directory) / "primary")
        with primary, Watched(Path(directory) / "replica", primary):
            wait_until(lambda: primary.ask("WAIT", 1, 100) == 1, "the replica", 30)
            settings = Settings(redis_url=primary.url, allow_unlisted=True)
            with connect(settings) as pipeline:
                print(_ratios(pipeline))


def _ratios(pipeline) -> str:
    users, recent = pipeline.collection("users"), pipeline.store.recent
    took: dict[str, list[float]] = {"kept": [], "not": [], "control": []}
    microseconds(users)
    for at in range(ROUNDS * 3):
        which = [*took][(at + at // 3) % 3]
        recent.is_on = which == "kept"
        took[which].append(microseconds(users))
    of = {which: median(some) for which, some in took.items()}
    paired = {
        which: median(one / other for one, other in zip(took[which], took["not"], strict=True))
        for which in ("kept", "control")
    }
    return (
        f"A put of 500 bytes, µs of CPU, median of {ROUNDS} rounds: kept {of['kept']:.1f}, not {of['not']:.1f}, "
        f"control {of['control']:.1f}; ratio {paired['kept']:.3f}, control {paired['control']:.3f}"
    )


if __name__ == "__main__":
    main()
