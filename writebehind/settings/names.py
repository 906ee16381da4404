"""Names of queues; and which ones MongoDB takes for databases and collections, safe in a URL and a Redis key too.

And of collections those whose figures are told apart from others.

MongoDB's rules: "Naming Restrictions" in its manual, "MongoDB Limits and Thresholds".
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final

from writebehind.tallies.apart import ToldApart

#: No part is empty, so no dot begins or ends a name; no `$` and no null byte; `system.` is MongoDB's own.
#: With the longest database a namespace has 184 bytes: less than 235, which a sharded collection may have.
LONGEST_COLLECTION_NAME: Final = 120
#: As other languages take it too; the length comes to it.
COLLECTION_NAME_PATTERN: Final = r"(?!system\.)[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*"
COLLECTION_NAME: Final = re.compile(rf"(?=.{{1,{LONGEST_COLLECTION_NAME}}}\Z){COLLECTION_NAME_PATTERN}", re.ASCII)
#: MongoDB looks at bytes, and on Windows at more characters than elsewhere.
MOST_DATABASE_BYTES: Final = 63
_NOT_IN_DATABASES: Final = frozenset('/\\. "$*<>:|?\0')
#: Of MongoDB itself: `local` is not even replicated.
_OWN_DATABASES: Final = frozenset({"admin", "config", "local"})

#: In the place of a collection: what the API says of writes by their idempotency keys.
RECEIPTS: Final = "receipts"

#: Flushing has a queue of its own, so that maintenance never delays a flush.
FLUSH_QUEUE: Final = "flush"
#: So have refreshes: nobody waits for one, but what is served meanwhile is stale.
REFRESH_QUEUE: Final = "refresh"
MAINTENANCE_QUEUE: Final = "maintenance"
#: Each has to be consumed by some worker.
QUEUES: Final = (FLUSH_QUEUE, REFRESH_QUEUE, MAINTENANCE_QUEUE)


def fault_of_database(name: str) -> str:
    """The reason why documents cannot be kept in a database of this name; '' where they can."""
    if not name:
        return "is empty"
    if found := sorted(_NOT_IN_DATABASES & set(name)):
        return f"must not contain {found[0]!r}"
    if len(name.encode(errors="surrogatepass")) > MOST_DATABASE_BYTES:
        return f"is longer than {MOST_DATABASE_BYTES} bytes"
    return "is MongoDB's own" if name.lower() in _OWN_DATABASES else ""


def told_apart(names: Iterable[str], apart: ToldApart) -> Collection[str]:
    """Of the collections that something in Redis is about, those with figures of their own; the rest is `OTHER`.

    Clients may have named them, or other hands put them there: these are told apart from none.
    """
    found = sorted(filter(COLLECTION_NAME.fullmatch, frozenset(names)))
    apart.agree(found)
    return apart.shown(found)
