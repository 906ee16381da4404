"""Keys, rights and every route of the description, on web processes as they run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from tests.acceptance.conftest import NO_TLS
from tests.acceptance.servers import WebServer, web_server
from tests.waiting import slowness, wait_until

pytestmark = pytest.mark.acceptance

ROOT_KEY = f"wb_{'0' * 12}_{'k' * 43}"
GRANTS = (
    ["users:read"],
    ["users:write"],
    ["pages:read,write"],
    ["*:read"],
    ["*:write"],
    ["users:read", "admin"],
    ["admin"],
)
#: In place of variables of paths. No document and no key has such a name.
FILLED = {"collection": "users", "id": "nobody", "name": "none", "key": "nobody", "idempotency_key": "none"}
#: Operations that read, though their method is for writing.
READING = {"get_documents"}
REFUSED = {401, 403}
#: How long a key may be taken after it was revoked, seconds.
MOST_S = 5
WEB_WORKERS = 3


@pytest.fixture(scope="module")
def server(system) -> Iterator[WebServer]:
    """Three web processes that ask for keys, with keys of their own."""
    own = urlsplit(system.stack.redis_url)._replace(path="/6").geturl()
    with web_server(
        system,
        REDIS_URL=own,
        MONGODB_DATABASE="keys",
        WRITEBEHIND_ROOT_KEY=ROOT_KEY,
        WRITEBEHIND_WEB_WORKERS=str(WEB_WORKERS),
    ) as served:
        yield served


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def made(server: WebServer, name: str, grants: list[str]) -> str:
    """The token of a new key."""
    asked = {"name": name, "allow": grants}
    return server.http.post("/admin/keys", json=asked, headers=bearer(ROOT_KEY)).raise_for_status().json()["token"]


def operations(server: WebServer) -> Iterator[tuple[str, str, str, bool]]:
    """Each operation of the description: its name, method, an address, and whether it asks for a key."""
    for path, described in server.http.get("/openapi.json").json()["paths"].items():
        address = re.sub(r"{(\w+)}", lambda found: FILLED[found[1]], path)
        for method, one in described.items():
            yield one["operationId"], method.upper(), address, bool(one["security"])


def wanted(name: str, method: str, address: str) -> str:
    """The grant that an operation is for: any will do for a receipt, which is unknown to who may not see it."""
    if address.startswith(("/admin/", "/metrics")):
        return "admin"
    if address.startswith("/v1/receipts/"):
        return "any"
    reads = method in {"GET", "HEAD"} or name in READING
    return f"{address.split('/')[2].partition(':')[0]}:{'read' if reads else 'write'}"


def grants(given: list[str], asked: str) -> bool:
    """Whether a key has the right, by what the documentation says."""
    collection, _, right = asked.partition(":")
    if not right:
        return asked == "any" or asked in given
    allowed = (one.partition(":") for one in given)
    return any(of in {collection, "*"} and right in rights.split(",") for of, _, rights in allowed)


def test_every_operation_asks_for_its_right_and_no_other(server):
    """Every key on every operation: let in where the right is granted, 403 without it, and 401 without a key."""
    every = list(operations(server))
    assert {"list_documents", "get_receipt", "create_key", "bulk_write", "get_metrics"} <= {
        one[0] for one in every
    }
    tokens = {
        token: given for given in GRANTS if (token := made(server, "-".join(given).replace(":", "-"), given))
    }
    tokens |= {"": [], f"wb_{'1' * 12}_{'x' * 43}": []}
    with ThreadPoolExecutor(8) as threads:
        asked = [
            (given, one, threads.submit(server.http.request, one[1], one[2], headers=bearer(token)))
            for token, given in tokens.items()
            for one in every
        ]
        found = [(given, one, answer.result()) for given, one, answer in asked]
    for given, (name, method, address, is_kept), answer in found:
        status = answer.status_code
        if not is_kept:
            assert status not in REFUSED, (name, given)
            continue
        right = wanted(name, method, address)
        if not given:
            assert (401, True) == (status, "WWW-Authenticate" in answer.headers), (name, given)
        elif grants(given, right):
            assert status not in REFUSED, (name, given, status)
        else:
            assert 403 == status, (name, given, status)
            assert method == "HEAD" or answer.json()["detail"].endswith(f"does not grant {right}")


def test_items_of_a_batch_are_no_way_around(server):
    """Whoever may not write does not write as an item, nor read so; nor does a lookup or a query tell more."""
    reader, writer = (made(server, f"batch-{one}", [f"users:{one}"]) for one in ("read", "write"))
    item = [{"op": "put", "id": "x", "doc": {}}]
    ask = server.http.post
    assert 403 == ask("/v1/users:bulk", json=item, headers=bearer(reader)).status_code
    assert 207 == ask("/v1/users:bulk", json=item, headers=bearer(writer)).status_code
    assert 403 == ask("/v1/users:get", json={"ids": ["x"]}, headers=bearer(writer)).status_code
    assert 200 == ask("/v1/users:get", json={"ids": ["x"]}, headers=bearer(reader)).status_code
    for path in ("/v1/users?username=x", "/v1/users/queries/in_city?city=x", "/v1/users?limit=1"):
        statuses = [server.http.get(path, headers=bearer(one)).status_code for one in (reader, writer)]
        assert 403 == statuses[1] != statuses[0], path


def test_each_of_three_processes_refuses_a_revoked_key(server):
    """Within 5 s no process lets it in, whichever has answered before."""
    token = made(server, "leaving", ["users:read"])
    path, key = "/v1/users/nobody", token.split("_")[1]
    clients = [
        httpx.Client(base_url=server.http.base_url, headers=bearer(token), trust_env=False, verify=NO_TLS)
        for _ in range(12 * WEB_WORKERS)
    ]
    try:
        # Each connection stays with the process that has taken it.
        wait_until(
            lambda: all(one.get(path).status_code == 404 for one in clients), "every process to know it", 30
        )
        processes = server.process.children(recursive=True)
        holders = {
            process.pid
            for process in processes
            if any(
                one.laddr.port == server.port and one.status == psutil.CONN_ESTABLISHED
                for one in process.net_connections("tcp")
            )
        }
        assert WEB_WORKERS == len(holders)
        assert server.http.delete(f"/admin/keys/{key}", headers=bearer(ROOT_KEY)).json()["state"] == "revoked"
        within = MOST_S * slowness()
        wait_until(
            lambda: {401} == {one.get(path).status_code for one in clients}, "each process to refuse", within
        )
    finally:
        for one in clients:
            one.close()
