"""The route of what is read most."""

from __future__ import annotations

from typing import Any

from flask import Response

from writebehind import Pipeline
from writebehind.flask.answers import as_json
from writebehind.flask.declarations import Routes
from writebehind.flask.description.operations import administered
from writebehind.flask.description.schemas import limited
from writebehind.flask.parameters import limit
from writebehind.warming.hot_keys import HotKey, hottest

DEFAULT_LIMIT, MOST = 20, 1_000
#: About how many documents of all partitions an answer shows at most.
MOST_SHOWN = 20_000
_FOUND = administered("list_hot_keys", "HotKeys", "", limited(DEFAULT_LIMIT, MOST))


def hot_keys(pipeline: Pipeline) -> Routes:
    """The route, bound to a pipeline."""
    routes = Routes("hot_keys", __name__)

    @routes.get("/hot-keys", operation=_FOUND)
    def found() -> Response:
        """Documents that are read most.

        Overall, and in each partition.
        """
        most = limit(DEFAULT_LIMIT, MOST)
        by_partition = pipeline.hot_keys.by_partition(min(most, _in_each(pipeline.store.partitions)))
        shown = {
            "hot_keys": [_shown(one) | {"partition": one.partition} for one in hottest(by_partition, most)],
            "by_partition": [
                {"partition": partition, "hot_keys": [_shown(one) for one in some]}
                for partition, some in enumerate(by_partition)
            ],
        }
        return as_json(shown)

    return routes


def _in_each(partitions: int) -> int:
    """The number of documents of each partition that are looked at: fewer where there are very many partitions."""
    return max(DEFAULT_LIMIT, MOST_SHOWN // partitions)


def _shown(one: HotKey) -> dict[str, Any]:
    return {"collection": one.id.collection, "id": one.id.text, "reads_per_second": round(one.rate, 3)}
