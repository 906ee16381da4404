"""Reads of the documents that readers are given: from which members, and never older than the primary had them.

A secondary that lags behind would let a fill bring an older document than Redis has known, and keep it for its
whole TTL. A primary that has just been elected may do the same for read concern `majority`. So such reads are
fenced: the primary is asked first, in a causally consistent session, for no more than an id. What is read then
waits until the member has come to the same point.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import Nearest, Primary, Secondary, SecondaryPreferred

Preference = Literal["primary", "secondary", "secondaryPreferred", "nearest"]
Concern = Literal["local", "majority", "linearizable"]

_MODES: Final[Mapping[Preference, Any]] = {
    "primary": Primary,
    "secondary": Secondary,
    "secondaryPreferred": SecondaryPreferred,
    "nearest": Nearest,
}
_ID_ONLY = {"_id": 1}


@dataclass(frozen=True, slots=True)
class FreshReads:
    """The members that are read from, and the read concern."""

    preference: Preference
    concern: Concern

    @contextmanager
    def of(
        self, collection: Collection[Any], where: Mapping[str, Any]
    ) -> Iterator[tuple[Collection[Any], ClientSession | None]]:
        """The collection as it is read from, and the session to read in.

        Args:
            collection: it, with the primary and concern `local`.
            where: a filter that reaches the shards that are read, and costs little.

        Raises:
            PyMongoError: MongoDB does not answer.
        """
        if self.preference == "primary" and self.concern != "majority":
            if self.concern != "local":
                collection = collection.with_options(read_concern=ReadConcern(self.concern))
            yield collection, None
            return
        target = collection.with_options(
            read_preference=_MODES[self.preference](), read_concern=ReadConcern(self.concern)
        )
        with collection.database.client.start_session(causal_consistency=True) as session:
            collection.find_one(where, _ID_ONLY, session=session)
            # A server that tells no time has no members that could lag behind.
            yield (target if session.operation_time else collection), session


#: As far as the primary is, and in one request.
OF_PRIMARY: Final = FreshReads("primary", "local")
