"""The table of MongoDB's errors."""

from __future__ import annotations

import pytest
from pymongo import helpers_shared
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    ExecutionTimeout,
    InvalidName,
    InvalidOperation,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WTimeoutError,
)

from tests.refusals import DUPLICATE_KEYS
from writebehind.mongodb import error_table
from writebehind.mongodb.error_table import CODES, Refusal, Verdict


def test_what_the_driver_tries_again_is_not_about_a_document():
    """Every code that PyMongo itself retries, or takes for a change of the primary, is transient here too."""
    driver = helpers_shared._RETRYABLE_ERROR_CODES | helpers_shared._NOT_PRIMARY_CODES
    assert {10107, 189, 91} <= driver
    assert set() == {code for code in driver if CODES.get(code, ("", Verdict.DOCUMENT))[1] is Verdict.DOCUMENT}


@pytest.mark.parametrize("code", helpers_shared._NOT_PRIMARY_CODES)
def test_a_server_that_is_no_primary_is_an_outage(code):
    """Whatever is sent next to a server that is no primary would fail as well."""
    assert Verdict.OUTAGE is error_table.of_document({"code": code})
    assert Verdict.OUTAGE is error_table.of_command(OperationFailure("no", code))


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (AutoReconnect("gone"), Verdict.OUTAGE),
        (NetworkTimeout("slow"), Verdict.OUTAGE),
        (NotPrimaryError("no"), Verdict.OUTAGE),
        (ServerSelectionTimeoutError("none"), Verdict.OUTAGE),
        (WTimeoutError("no majority", 64), Verdict.OUTAGE),
        (OperationFailure("Authentication failed.", 18), Verdict.OUTAGE),
        (ConfigurationError("this server is too old"), Verdict.OUTAGE),
        (OperationFailure("not authorized", 13), Verdict.UNCLEAR),
        (OperationFailure("unheard of", 424242), Verdict.UNCLEAR),
        (OperationFailure("unheard of"), Verdict.UNCLEAR),
        (OperationFailure("again", 424242, {"errorLabels": ["RetryableWriteError"]}), Verdict.BUSY),
        (InvalidOperation("Cannot use MongoClient after close"), Verdict.BUSY),
        (WaitQueueTimeoutError("Timed out while checking out a connection"), Verdict.BUSY),
        (InvalidName("collection names cannot be empty"), Verdict.DOCUMENT),
        (OperationFailure("Invalid system namespace", 73), Verdict.DOCUMENT),
        (ExecutionTimeout("too slow", 50), Verdict.BUSY),
        (OperationFailure("write conflict", 112), Verdict.BUSY),
        (OperationFailure("overloaded", 462), Verdict.BUSY),
        (OperationFailure("bad value", 2), Verdict.DOCUMENT),
        (OperationFailure("too large", 10334), Verdict.DOCUMENT),
        (OperationFailure("again", 2, {"errorLabels": ["RetryableWriteError"]}), Verdict.BUSY),
    ],
)
def test_commands(error, verdict):
    """A command that fails is about a document only if its code says so and no label asks to try again."""
    assert verdict is error_table.of_command(error)


def test_what_the_driver_has_no_time_to_send():
    """Only the driver's own words say so: MongoDB's for the same code are about an operation that it has begun."""
    drivers = "operation would exceed time limit, remaining timeout:-0.17 <= network round trip time:0.002"
    assert error_table.is_not_sent(ExecutionTimeout(drivers, 50))
    assert not error_table.is_not_sent(ExecutionTimeout("operation exceeded time limit", 50))


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (AutoReconnect("gone"), Verdict.OUTAGE),
        (OperationFailure("stepped down", 189), Verdict.OUTAGE),
        (ExecutionTimeout("too slow", 50), Verdict.BUSY),
        (OperationFailure("again", 424242, {"errorLabels": ["RetryableError"]}), Verdict.BUSY),
        (OperationFailure("missing closing parenthesis", 51091), Verdict.DOCUMENT),
        (OperationFailure("unheard of", 424242), Verdict.DOCUMENT),
    ],
)
def test_queries(error, verdict):
    """What is unheard of is about the query, and not about MongoDB as a whole."""
    assert verdict is error_table.of_query(error)


@pytest.mark.parametrize(
    ("code", "verdict"),
    [(11000, Verdict.DOCUMENT), (121, Verdict.DOCUMENT), (166, Verdict.DOCUMENT), (112, Verdict.BUSY)],
)
def test_documents(code, verdict):
    """A document's own error is about the document only where its code says so."""
    assert verdict is error_table.of_document({"code": code})


@pytest.mark.parametrize("code", [0, 1, 8, 13, 71, 82, 96, 8000, 424242])
def test_what_is_unheard_of_is_not_about_the_document(code):
    """A code that the table does not list may pass by itself: it is no reason to give a document up."""
    assert Verdict.UNCLEAR is error_table.of_document({"code": code})
    assert Verdict.UNCLEAR is error_table.of_command(OperationFailure("no", code))


def test_throttling_is_busy():
    """Azure Cosmos DB throttles single documents."""
    assert Verdict.BUSY is error_table.of_document({"code": 16500, "errmsg": "Request rate is large."})


@pytest.mark.parametrize("shape", DUPLICATE_KEYS, ids=lambda shape: shape["server"])
def test_an_id_that_is_there(shape):
    """Servers tell in many ways that a document is there already, and no value or other index passes for that."""
    error = shape["error"]
    assert shape["says_id"] is Refusal.of_document(error).same_id
    command = OperationFailure(error.get("errmsg", ""), 11000, error)
    assert shape["says_id"] is Refusal.of_command(command).same_id
    assert not Refusal.of_document({**error, "code": 121}).same_id


OLD_ROUTER = (
    "error inserting 1 documents to shard rs0:db1:27018 at version 2|1||53bc4ba51d95f80dd550b55b :: caused by :: "
    "E11000 duplicate key error index: d.c.$_id_  dup key: { : 1 }"
)


def test_a_duplicate_key_under_a_code_of_the_router():
    """A router that has a code of its own for a value that is there says so in its words."""
    for found in (
        Refusal.of_document({"code": 16460, "errmsg": OLD_ROUTER}),
        Refusal.of_command(OperationFailure("no", 16460, {"errmsg": OLD_ROUTER})),
    ):
        assert (11000, Verdict.DOCUMENT, True) == (found.code, found.verdict, found.same_id)
    quoted = {"code": 121, "errmsg": f"no: {OLD_ROUTER}"}
    assert 121 == Refusal.of_document(quoted).code
    quoted = {"code": 424242, "errmsg": "name is 'E11000 duplicate key error'"}
    assert 424242 == Refusal.of_document(quoted).code


@pytest.mark.parametrize("code", [61, 31025])
def test_a_shard_key_that_is_not_set_is_about_the_settings(code):
    """A router that does not find the shard says nothing of the document."""
    assert Verdict.SETTINGS is error_table.of_document({"code": code})
    assert Verdict.SETTINGS is error_table.of_command(OperationFailure("no", code))


@pytest.mark.parametrize("code", [63, 70, 150, 227, 239, 246, 249, 250, 272, 13388])
def test_chunks_that_move_are_busy(code):
    """While a router learns where documents are, another try may succeed."""
    assert Verdict.BUSY is error_table.of_document({"code": code})


def test_names():
    """Codes have the server's names; what is not in the table has none."""
    assert ("DuplicateKey", "") == (error_table.name_of(11000), error_table.name_of(424242))


LIMITS = " (configured timeouts: socketTimeoutMS: 300.0ms, connectTimeoutMS: 300.0ms)"
SERVERS = ", Timeout: 0.09s, Topology Description: <TopologyDescription id: 6b, servers: [<Server ('db1', 1)>]>"
TWO_AWAY = (
    f"db1:1: [Errno 111] Connection refused{LIMITS},db2:1: [Errno -2] Name or service not known{LIMITS}{SERVERS}"
)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OperationFailure("no, full error: RawBSONDocument(b'..')", 9, {"errmsg": "no"}), "no"),
        (OperationFailure("no, full error: RawBSONDocument(b'..')"), "no"),
        # mongo-java-server opens change streams that PyMongo cannot follow
        (OperationFailure("Expected field 'operationTime' missing from command response : RawBSONDocument(b'..')"),
         "Expected field 'operationTime' missing from command response"),
        (AutoReconnect("connection closed"), "connection closed"),
        (AutoReconnect(f"db:27017: timed out{LIMITS}"), "db:27017: timed out"),
        (AutoReconnect("db:27017: operation cancelled"), "db:27017: no answer came in time"),
        (ServerSelectionTimeoutError(f"No servers found yet{SERVERS}"), "no answer came in time"),
        (ServerSelectionTimeoutError(TWO_AWAY), "db1:1: Connection refused, db2:1: Name or service not known"),
        (ServerSelectionTimeoutError(f"No primary available{SERVERS}"), "No primary available"),
        (OperationFailure("two\n  lines", 9, {"errmsg": "two\n  lines"}), "two lines"),
        (OperationFailure("x" * 5_000), "x" * 300 + "…"),
    ],
)  # fmt: skip
def test_words(error, words):
    """What people read is short: no bytes of answers, no time limits, no list of servers, and one line."""
    assert words == error_table.words(error)
