"""A shop's Celery application with tasks, a queue and a schedule of its own, into which writebehind is installed.

In the repository's root, after `make run` in another terminal, and `. .venv/bin/activate` in this one:

    export PYTHONPATH=examples/celery_app WRITEBEHIND_CONFIG=examples/celery_app/writebehind.toml
    celery -A shop worker -Q celery,mail,flush,refresh,maintenance --pool threads
    celery -A shop beat -s .writebehind/shop-beat                       # in a terminal more, set up as this one

    celery -A shop call shop.order --args '["A1", ["tea"]]'             # and in one more
    python -c 'from writebehind import connect; print(connect().collection("orders").get("A1"))'

Its workers persist what its tasks, and its web processes, write to Redis. It finds the servers of `make run`;
`REDIS_URL` and `MONGODB_URL` name others. Another application, with a MongoDB database of its own, takes another
Redis database: REDIS_URL=redis://127.0.0.1:6379/1.
"""

from __future__ import annotations

from typing import Any

from celery import Celery

from writebehind.celery import install

app = Celery("shop")  # without a broker of its own, so that it gets that of writebehind's settings
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
