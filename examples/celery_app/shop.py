"""A shop's Celery application with tasks, a queue and a schedule of its own, into which writebehind is installed.

    celery -A shop worker -Q celery,mail,flush,refresh,maintenance --pool threads
    celery -A shop beat

Its workers persist what its tasks, and its web processes, write to Redis. Another application, with a MongoDB
database of its own, takes another Redis database: REDIS_URL=redis://127.0.0.1:6379/1.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery

from writebehind.celery import install

app = Celery("shop", broker=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))
app.conf.update(
    task_routes={"shop.confirm": {"queue": "mail"}},
    beat_schedule={"count": {"task": "shop.count", "schedule": 2.0}},
)
# When the application has its configuration: its queues and schedule stay, writebehind's are added.
writebehind = install(app)


@app.task(name="shop.order")
def order(number: str, items: list[str]) -> None:
    """Take an order: it is acknowledged when Redis has it, and a flush task brings it to MongoDB."""
    writebehind.pipeline.collection("orders").put(number, {"items": items, "confirmed": False})
    confirm.delay(number)


@app.task(name="shop.confirm")
def confirm(number: str) -> None:
    """Confirm an order that was taken; what was just written is what is read, also before MongoDB has it."""
    orders = writebehind.pipeline.collection("orders")
    taken: dict[str, Any] | None = orders.get(number)
    if taken is not None:
        orders.put(number, taken | {"confirmed": True})


@app.task(name="shop.count")
def count() -> None:
    """Count how often the shop's own schedule has run."""
    writebehind.pipeline.collection("counters").increment("schedule", {"runs": 1})
