"""A MongoDB deployment: what it is, what its collections are like, and whether it answers.

Every operation is bounded in time, reads from the primary, and writes durably, whatever the client's URL says.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pymongo
from bson.codec_options import CodecOptions
from pymongo import MongoClient, ReadPreference
from pymongo.database import Database
from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.server_description import ServerDescription
from pymongo.write_concern import WriteConcern

from writebehind.deadline import left_s
from writebehind.documents.raw_bson import RAW_OPTIONS
from writebehind.errors import (
    ConfigurationError,
    MongoBusyError,
    MongoRefusesError,
    MongoUnavailableError,
    PipelineClosedError,
    Reason,
)
from writebehind.mongodb import error_table
from writebehind.mongodb.breaker import MongoBreaker
from writebehind.mongodb.error_table import Refusal, Verdict
from writebehind.mongodb.outcomes import RefusedError
from writebehind.mongodb.waiting import waits

#: Of a thread whose deadline is over.
_TOO_LATE = "the time of the request is over"


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """A collection as MongoDB lists it.

    Attributes:
        kind: `collection`, `view` or `timeseries`; '' where the server does not say.
        options: what it was created with.
    """

    kind: str
    options: Mapping[str, Any]

    @property
    def schema(self) -> Mapping[str, Any] | None:
        """The JSON Schema that documents must satisfy to be taken, if any."""
        enforced = self.options.get("validationAction") != "warn" and self.options.get("validationLevel") != "off"
        found = self.options.get("validator", {}).get("$jsonSchema")
        return found if enforced else None


class Deployment:
    """One database of a deployment. Safe to share between threads."""

    def __init__(
        self, client: MongoClient[Any], database: str, *, timeout_ms: int, breaker: MongoBreaker | None = None
    ) -> None:
        """Use `client`, which need not be connected yet; `timeout_ms` bounds every operation as a whole.

        With a `breaker`, MongoDB is left alone while it is known not to answer.
        """
        self._timeout_s = timeout_ms / 1000
        self._ask: Callable[[], AbstractContextManager[None]] = breaker.guard if breaker else nullcontext
        self._name = database
        self.use(client)
        if breaker:
            breaker.look_at(self)

    def use(self, client: MongoClient[Any]) -> None:
        """Ask another client from here on."""
        self._is_closed = False
        # None of it as the URL says: a secondary that lags behind would fill the cache with what is past.
        self._database = client.get_database(
            self._name,
            codec_options=RAW_OPTIONS,
            read_preference=ReadPreference.PRIMARY,
            read_concern=ReadConcern("local"),
            write_concern=WriteConcern(w="majority", j=True),
        )

    def close(self) -> None:
        """Tell whoever is asking, or asks from here on, that this is over, and nobody that MongoDB is away."""
        self._is_closed = True
        self._database.client.close()

    def ping(self, *, timeout_s: float) -> None:
        """Ask for a sign of life, for at most `timeout_s` seconds.

        Raises:
            MongoUnavailableError: there is none.
        """
        with pymongo.timeout(timeout_s), self._deadline():
            self._database.command("ping")

    def unreachable(self) -> str:
        """The reason for which no server can be reached, as the driver's monitors saw last, without asking.

        '' where one can be, or the driver has not looked yet.
        """
        errors = [one.error for one in self._servers()]
        first = errors[0] if errors and all(errors) else None
        return "" if first is None else error_table.words(first)

    def round_trip_s(self) -> float:
        """The least time that the farthest server has lately taken for a sign of life, seconds; 0 where unknown.

        Not the mean: one answer that came when a frozen server went on would count as a long way for minutes.
        """
        return max((one.min_round_trip_time for one in self._servers()), default=0.0)

    def _servers(self) -> Collection[ServerDescription]:
        """The servers as the driver's monitors saw them last."""
        return self._database.client.topology_description.server_descriptions().values()

    def command(self, name: str, *, admin: bool = False) -> dict[str, Any]:
        """The answer to a command without arguments, such as `hello`.

        Raises:
            MongoUnavailableError: MongoDB does not answer, or refuses.
        """
        database = self._database.client.admin if admin else self._database
        with self._deadline():
            return dict(database.command(name))

    def server_status(self, *, timeout_s: float) -> dict[str, Any]:
        """The answer to `serverStatus`, which needs the privilege of that name; empty where it is refused.

        Raises:
            MongoUnavailableError: MongoDB does not answer within so many seconds.
        """
        try:
            with pymongo.timeout(timeout_s):
                return self.command("serverStatus", admin=True)
        except MongoRefusesError:
            return {}

    def replication_lag_s(self, *, timeout_s: float) -> float | None:
        """The time that the last secondary is behind the primary, seconds, by `replSetGetStatus`.

        `None` where that needs a privilege which the user has not, where there is no secondary, and where MongoDB
        does not answer in time.
        """
        try:
            with pymongo.timeout(timeout_s):
                members = self.command("replSetGetStatus", admin=True).get("members", [])
        except MongoUnavailableError:
            return None
        times = [
            (one.get("stateStr"), when) for one in members if isinstance(when := one.get("optimeDate"), datetime)
        ]
        primary = [when for state, when in times if state == "PRIMARY"]
        secondaries = [when for state, when in times if state == "SECONDARY"]
        return max(0.0, (primary[0] - min(secondaries)).total_seconds()) if primary and secondaries else None

    def hello(self) -> dict[str, Any]:
        """The server's description of itself, under the names of `hello`.

        Raises:
            MongoUnavailableError: MongoDB does not answer, or refuses.
        """
        try:
            return self.command("hello", admin=True)
        except MongoRefusesError:  # mongo-java-server, and MongoDB before 4.4.2, know the older name only
            said = self.command("isMaster", admin=True)
            return {"isWritablePrimary": said.get("ismaster")} | said

    def collections(self) -> dict[str, CollectionInfo]:
        """The collections that exist, by name.

        Raises:
            MongoUnavailableError: MongoDB does not answer, or refuses.
        """
        plain: Database[dict[str, Any]] = self._database.with_options(codec_options=CodecOptions())
        with self._deadline():
            found = list(plain.list_collections())
        return {one["name"]: CollectionInfo(one.get("type", ""), one.get("options", {})) for one in found}

    def indexes(self, collection: str) -> dict[str, dict[str, Any]]:
        """The indexes of a collection, by name, as pymongo tells them.

        Raises:
            MongoUnavailableError: MongoDB does not answer, or refuses.
        """
        plain: Database[dict[str, Any]] = self._database.with_options(codec_options=CodecOptions())
        with self._deadline():
            return {name: dict(index) for name, index in plain[collection].index_information().items()}

    def shard_keys(self, collections: Sequence[str]) -> dict[str, list[str]]:
        """The fields of the shard key of each of these collections that is sharded, in their order.

        Raises:
            MongoUnavailableError: MongoDB does not answer, or does not let its user read `config.collections`.
        """
        names = {f"{self._name}.{one}": one for one in collections}
        config: Database[dict[str, Any]] = self._database.client.get_database(
            "config", CodecOptions(), ReadPreference.PRIMARY, read_concern=ReadConcern("local")
        )
        with self._deadline():
            found = list(config["collections"].find({"_id": {"$in": list(names)}}, {"key": 1, "dropped": 1}))
        return {names[one["_id"]]: list(one["key"]) for one in found if "key" in one and not one.get("dropped")}

    def create_unique_index(self, collection: str, field: str) -> None:
        """Create a unique index on a field, for the documents that have it.

        Raises:
            ConfigurationError: MongoDB refuses, as when two documents have the same value.
            MongoUnavailableError: MongoDB does not answer in time. It may be building the index.
        """
        with self._deadline():
            try:
                self._database[collection].create_index([(field, 1)], unique=True, sparse=True)
            except OperationFailure as error:
                if error.timeout or error_table.of_command(error) is Verdict.OUTAGE:
                    raise
                message = f"no unique index on {field} of {collection}: {error_table.words(error)}"
                raise ConfigurationError(message) from error

    def try_write_concern(self) -> None:
        """See that a majority acknowledges: by the deletion of nothing, which has to be acknowledged too.

        Raises:
            MongoUnavailableError: it does not.
        """
        with self._deadline():
            self._database["writebehind.doctor"].delete_one({"_id": "nothing"})

    def try_change_stream(self) -> None:
        """See that a change stream opens, as the listener opens one.

        Raises:
            MongoUnavailableError: it does not.
        """
        plain = self._database.with_options(read_concern=ReadConcern())
        with self._deadline(), plain.watch(max_await_time_ms=1) as stream:
            stream.try_next()

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Ask MongoDB, if it may be asked. Raises as `waits` and the breaker's guard."""
        with waits(), self._ask():
            yield

    @contextmanager
    def _deadline(self, verdict: Callable[[PyMongoError], Verdict] = error_table.of_command) -> Iterator[None]:
        # The deadline is shorter than the lease, so that a flusher does not write after its lease has ended.
        within_s = left_s(self._timeout_s)
        if not within_s:
            raise MongoBusyError(inner=_TOO_LATE)
        try:
            with pymongo.timeout(within_s):
                yield
        except BulkWriteError as error:
            details = error.details or {}
            refused = {one["index"]: Refusal.of_document(one) for one in details.get("writeErrors", ())}
            doubts = details.get("writeConcernErrors", ())
            if doubts or not refused:
                why = "; ".join(str(one.get("errmsg", "")) for one in doubts) or error_table.words(error)
                raise MongoUnavailableError("MongoDB cannot take writes now", inner=why, outage=True) from error
            raise RefusedError(refused) from error
        except PyMongoError as error:
            if error_table.is_closed(error) or (self._is_closed and not isinstance(error, OperationFailure)):
                raise PipelineClosedError from error
            if error_table.is_of_client(error):
                raise MongoBusyError(inner=error_table.words(error)) from error
            if within_s < self._timeout_s and error.timeout:  # which says nothing of MongoDB
                raise MongoBusyError(inner=_TOO_LATE) from error
            about = verdict(error)
            if about in {Verdict.DOCUMENT, Verdict.UNCLEAR}:
                raise MongoRefusesError("MongoDB refuses", inner=error_table.words(error)) from error
            raise MongoUnavailableError(
                "MongoDB does not answer",
                inner=error_table.words(error),
                outage=about is Verdict.OUTAGE,
                reason=Reason.MONGODB_LATE if error_table.is_late(error) else None,
            ) from error
