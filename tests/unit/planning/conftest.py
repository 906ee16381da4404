"""Constants that are easy to calculate with."""

from __future__ import annotations

from typing import Any

import pytest

from writebehind.planning.constants import Constants

KNOWN: dict[str, Any] = {
    "measured": {
        "on": "2026-11-27",
        "cores": 2,
        "processor": "a processor",
        "python": "3.11",
        "redis": "Redis 7",
        "mongodb": "a stand-in",
    },
    "memory": {
        "jemalloc": {
            "server": "Redis 7",
            "pending": 150.0,
            "cached": 90.0,
            "lookup_pending": 300.0,
            "lookup_cached": 160.0,
        }
    },
    "sizes": [200, 1_200],
    "put": {"process_us": [400.0, 500.0], "redis_us": [90.0, 110.0]},
    "get": {"process_us": [300.0, 350.0], "redis_us": [30.0, 40.0]},
    "miss": {"process_us": [900.0, 1_000.0], "redis_us": [120.0, 140.0]},
    "flush": {"process_us": [50.0, 60.0], "redis_us": [40.0, 50.0]},
    "task": {"worker_us": 2_000.0, "redis_us": 200.0},
    "idle": {"web_cores": 0.01, "web_redis_cores": 0.003, "worker_cores": 0.01, "worker_redis_cores": 0.002},
    "times": {"latency_s": 0.005, "batch_s": 0.004, "document_us": [100.0, 200.0]},
}


@pytest.fixture
def known() -> Constants:
    return Constants.model_validate(KNOWN)
