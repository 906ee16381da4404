"""Constants that a plan is made from: costs of a document, a request, a task, as measured on a machine."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from writebehind.errors import ConfigurationError
from writebehind.planning.allocation import Allocator
from writebehind.regular_files import fault_of_file

#: Of the machine that `measured` names; `make bench` writes such a file for another one.
REFERENCE = "reference.json"

Cost = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Machine(_Part):
    """The machine and the programs that were measured."""

    on: str
    cores: int
    processor: str
    python: str
    redis: str
    mongodb: str


class Memory(_Part):
    """Bytes in Redis beside the strings of a document: its key, its value and, while it is pending, its member.

    Attributes:
        server: the program that was measured.
        pending: of a document that is pending.
        cached: of one that MongoDB has.
        lookup_pending: more for each unique field, of a pending document.
        lookup_cached: the same of one that MongoDB has.
    """

    server: str
    pending: Cost
    cached: Cost
    lookup_pending: Cost
    lookup_cached: Cost


class Costs(_Part):
    """CPU for each document, µs, by its size: of the process that does it, and of Redis."""

    process_us: list[Cost]
    redis_us: list[Cost]


class Task(_Part):
    """CPU of a flush task beside that of its documents, µs: of the worker, and of the Redis that is the broker."""

    worker_us: Cost
    redis_us: Cost


class Idle(_Part):
    """Cores that processes need which have nothing to do, and that Redis needs for each of them."""

    web_cores: Cost
    web_redis_cores: Cost
    worker_cores: Cost
    worker_redis_cores: Cost


class Times(_Part):
    """Times of a flush.

    Attributes:
        latency_s: how much later than it is due a flush is done, with one document.
        batch_s: time of a bulk write with one document.
        document_us: and of each further one, by its size.
    """

    latency_s: Cost
    batch_s: Cost
    document_us: list[Cost]


class Constants(_Part):
    """All that was measured.

    Attributes:
        sizes: of the documents, bytes of BSON, in their order; lists have a value for each.
        put: of a PUT, get: of a GET that finds the document in Redis, miss: of one that loads it from MongoDB.
        flush: of a document that is brought to MongoDB; the process is the worker.
    """

    measured: Machine
    memory: dict[Allocator, Memory]
    sizes: Annotated[list[Annotated[int, Field(gt=0)]], Field(min_length=2)]
    put: Costs
    get: Costs
    miss: Costs
    flush: Costs
    task: Task
    idle: Idle
    times: Times

    @model_validator(mode="after")
    def _check(self) -> Self:
        costs = (self.put, self.get, self.miss, self.flush)
        lists = [self.times.document_us, *(values for one in costs for values in (one.process_us, one.redis_us))]
        if any(len(values) != len(self.sizes) for values in lists):
            raise ValueError("each list needs a value for each of the sizes")
        if list(self.sizes) != sorted(set(self.sizes)):
            raise ValueError("sizes must grow")
        if not self.memory:
            raise ValueError("memory: no allocator was measured")
        return self

    def at(self, values: Sequence[float], size: float) -> float:
        """The value for documents of a size: between those that were measured, and beyond them, on a line."""
        last = len(self.sizes) - 1
        right = min(max(bisect_left(self.sizes, size), 1), last)
        start, end = self.sizes[right - 1], self.sizes[right]
        low, high = values[right - 1], values[right]
        return max(low + (high - low) * (size - start) / (end - start), 0.0)


def load_constants(path: Path | None = None) -> Constants:
    """The constants in a file, or those of the reference machine.

    Raises:
        ConfigurationError: the file cannot be read, or has no constants.
    """
    if path and (fault := fault_of_file(path)):
        raise ConfigurationError(f"constants cannot be read: {fault}: {path}")
    try:
        text = path.read_bytes() if path else files(__package__).joinpath(REFERENCE).read_bytes()
        return Constants.model_validate_json(text)
    except OSError as error:
        raise ConfigurationError(f"constants cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ConfigurationError(f"no constants in {path}: {where}: {first['msg']}") from error
