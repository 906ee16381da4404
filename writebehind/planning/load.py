"""Loads that a plan is made for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from writebehind.planning.allocation import Allocator
from writebehind.redis.keys import MOST_PARTITIONS
from writebehind.settings.bounds import LONGEST_S, MOST
from writebehind.settings.collection import CollectionSettings
from writebehind.settings.installation import Settings

_SIZE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?(?::([0-9]{1,6}))?", re.ASCII)
#: Sizes that stand for all between two; the size of an empty document, and the largest that MongoDB takes.
_BETWEEN, _LEAST, _LARGEST = 20, 5, 16_777_216
#: More replicas of a server are a slip.
_MOST_REPLICAS = 100

PerSecond = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Time = Annotated[float, Field(gt=0, le=LONGEST_S, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Size:
    """A size of documents, bytes of BSON, and the part of them that have it."""

    bytes: float
    part: float


class Load(BaseModel):
    """A load, and what is given of the installation that is to carry it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    writes: PerSecond = Field(1_000.0, description="writes in a second")
    reads: PerSecond = Field(4_000.0, description="reads in a second")
    documents: int = Field(
        1_000_000, gt=0, le=MOST, description="documents that are written and read again and again"
    )
    new: Percent = Field(
        0.0, description="percent of the writes that create a document, which is not written again soon"
    )
    skew: float = Field(
        1.0,
        ge=0,
        le=5,
        allow_inf_nan=False,
        description="exponent of Zipf's law, by which the documents differ in popularity; 0 where they do not",
    )
    size: str = Field(
        "1000",
        description="bytes of a document as BSON; `500-2000` for sizes between, `300:9,20000:1` for nine of ten",
    )
    id_length: int = Field(24, gt=0, le=1_024, description="characters of an id")
    lookups: int = Field(0, ge=0, le=100, description="fields under `lookup`")
    outage: Time = Field(900.0, description="outage of MongoDB that is to be bridged, as 15m or 1h")
    ttl: Time = Field(
        CollectionSettings.model_fields["ttl"].default,
        description="seconds that documents stay in Redis once MongoDB has them: the setting",
    )
    flush_delay_ms: int = Field(
        CollectionSettings.model_fields["flush_delay_ms"].default,
        gt=0,
        le=LONGEST_S * 1_000,
        description="the setting",
    )
    batch_size: int = Field(
        Settings.model_fields["batch_size"].default, gt=0, le=10_000, description="the setting"
    )
    busy: float = Field(
        60.0, gt=0, le=100, allow_inf_nan=False, description="percent of a core that a process may need on average"
    )
    allocator: Allocator = Field(
        "jemalloc",
        description="memory allocator of Redis, as `INFO memory` tells: jemalloc in its packages and images",
    )

    servers: int | None = Field(None, gt=0, le=MOST_PARTITIONS, description="servers with Redis that there are")
    replicas: int = Field(
        2,
        ge=0,
        le=_MOST_REPLICAS,
        description="replicas of each of them, one of which takes its place; 0 without failover",
    )
    partitions: int | None = Field(None, gt=0, le=MOST_PARTITIONS, description="the setting, where it is given")
    max_pending_per_partition: int | None = Field(
        None, gt=0, le=MOST, description="the setting, where it is given"
    )
    maxmemory_mib: int | None = Field(
        None, gt=0, le=MOST >> 20, description="`maxmemory` of each server with Redis, MiB, where it is given"
    )
    mongodb_writes: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] | None = Field(
        None, description="guarded writes that your MongoDB takes in a second, where you know"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        _ = self.sizes
        if self.servers and self.partitions and self.servers > self.partitions:
            raise ValueError("partitions: a server without a partition has nothing to do")
        return self

    @cached_property
    def sizes(self) -> tuple[Size, ...]:
        """The sizes of documents, and how many have each."""
        found: list[Size] = []
        for text in self.size.split(","):
            match = _SIZE.fullmatch(text.strip())
            if match is None:
                raise ValueError(f"size: {text!r} is none such as 1000, 500-2000, or 300:9,20000:1")
            least, most, part = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
            if not _LEAST <= least <= most <= _LARGEST or not part:
                raise ValueError(f"size: {text!r} is not from {_LEAST} to {_LARGEST} bytes")
            steps = 1 if least == most else _BETWEEN
            found += [Size(least + (most - least) * (at + 0.5) / steps, part / steps) for at in range(steps)]
        whole = sum(one.part for one in found)
        return tuple(Size(one.bytes, one.part / whole) for one in found)

    @property
    def created(self) -> float:
        """Writes in a second that create a document."""
        return self.writes * self.new / 100

    @property
    def rewritten(self) -> float:
        """Writes in a second to documents that are written again and again."""
        return self.writes - self.created

    @property
    def delay_s(self) -> float:
        """The flush delay."""
        return self.flush_delay_ms / 1_000
