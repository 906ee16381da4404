"""Many pending documents at once, as commits would have left them: `fill`; `differences` compares the two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis

from writebehind import Pipeline
from writebehind.documents import codec
from writebehind.documents.entry import VERSION_DIGITS, Entry
from writebehind.redis.keys import PartitionKeys

COLLECTION = "docs"
#: Documents of one call of the script, and documents whose members are divided into partitions at once.
_CALL, _PORTION = 500, 100_000
#: What `commit.lua` does for a new document without a condition, for several of one partition.
_FILL = """
local time = redis.call('TIME')
local version = math.max(time[1] * 1000000 + time[2], (tonumber(redis.call('GET', KEYS[2]) or '') or 0) + 1)
for i = 4, #KEYS do
  local digits = string.format('%016.0f', version)
  redis.call('ZADD', KEYS[1], math.floor(version / 1000) + ARGV[1], ARGV[2 * i - 6])
  redis.call('SET', KEYS[i], digits .. ARGV[2 * i - 5])
  redis.call('SET', KEYS[2], digits)
  if redis.call('HINCRBY', KEYS[3], 'first', 1) == 1 then redis.call('HSETNX', KEYS[3], 'born', digits) end
  version = version + 1
end
"""


@dataclass(frozen=True, slots=True)
class Documents:
    """Documents of a size that can be told by their number.

    Attributes:
        text: makes them as large as they are to be.
        digits: of the number in their ids.
    """

    text: str
    digits: int = 10

    @classmethod
    def of(cls, size: int, digits: int = 10) -> Documents:
        """Those that are of so many bytes as BSON."""
        return cls("x" * (size - len(cls("", digits).body(0))), digits)

    def name(self, number: int) -> str:
        """The id; numbers that follow each other are not near each other in any order."""
        return f"d{number * 7_368_787 % 10**self.digits:0{self.digits}d}"

    def member(self, number: int) -> str:
        """The member."""
        return f"{COLLECTION}/s:{self.name(number)}"

    def document(self) -> dict[str, Any]:
        """The document without its id."""
        return {"text": self.text}

    def body(self, number: int) -> bytes:
        """The document as BSON."""
        return codec.encode({"_id": self.name(number)} | self.document())

    def payload(self, number: int) -> bytes:
        """Its entry, after the version."""
        return Entry.loaded(self.body(number), 0).payload


def fill(pipeline: Pipeline, client: redis.Redis, documents: Documents, numbers: range, *, delay_ms: int) -> None:
    """Let documents be pending."""
    step, layout = client.register_script(_FILL), pipeline.store.layout
    step.sha = client.script_load(_FILL)
    for portion in _portions(numbers, _PORTION):
        by_partition: dict[PartitionKeys, list[int]] = {}
        for number in portion:
            by_partition.setdefault(layout.of(documents.member(number)), []).append(number)
        for of, some in by_partition.items():
            for at in range(0, len(some), _CALL):
                called = some[at : at + _CALL]
                pairs = [(documents.member(one), documents.payload(one)) for one in called]
                entries = [of.entry(member) for member, _ in pairs]
                step(
                    [of.pending, of.clock, of.counts, *entries],
                    [delay_ms, *(part for one in pairs for part in one)],
                )


def _portions(numbers: range, size: int) -> Iterator[range]:
    for at in range(numbers.start, numbers.stop, size):
        yield range(at, min(at + size, numbers.stop))


def differences(pipeline: Pipeline, client: redis.Redis, documents: Documents, numbers: range) -> list[str]:
    """Documents of these that were filled, and that a write leaves otherwise; afterwards they were written."""
    collection, found = pipeline.collection(COLLECTION), []
    for number in numbers:
        of, member = pipeline.store.layout.of(documents.member(number)), documents.member(number)
        filled = _left(client, of, member)
        client.delete(of.entry(member))
        client.zrem(of.pending, member)
        collection.put(documents.name(number), documents.document())
        if filled != _left(client, of, member):
            found.append(member)
    return found


def _left(client: redis.Redis, of: PartitionKeys, member: str) -> tuple[Any, ...]:
    """All that Redis has of a document, but for when it was written."""
    key = of.entry(member)
    value: Any = client.get(key)
    delay_ms = (client.zscore(of.pending, member) or 0) - int(value[:VERSION_DIGITS]) // 1000
    named = sorted(client.scan_iter(f"*{member}*", count=10_000))
    facts = client.pttl(key), client.object("encoding", key), client.object("encoding", of.pending)
    return value[VERSION_DIGITS:], delay_ms, named, *facts
