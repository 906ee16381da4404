"""Limits of clients at the door: before a body is awaited, or a thread is taken."""

from __future__ import annotations

import logging
from collections.abc import Container
from dataclasses import dataclass
from functools import lru_cache, partial
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from typing import Final

from web.cors import is_preflight
from web.environ import Headers, Scope
from writebehind.access.hosts import is_address
from writebehind.access.keyring import Keyring
from writebehind.access.limits import Client, Clients, Limit, Refusal
from writebehind.access.refused import Call, Refusals, target_of
from writebehind.access.rights import Right
from writebehind.access.subjects import Holder, Subject
from writebehind.flask.access import token_of
from writebehind.flask.kinds import OPERATING, is_limited
from writebehind.flask.problems import (
    CONTENT_TYPE,
    NOTED,
    REQUEST_ID,
    SPEND,
    Problem,
    name_from,
    problem_text,
)
from writebehind.outage_log import OutageLog
from writebehind.plurals import counted

log = logging.getLogger(__name__)

#: Where the name of a request stands that is refused here.
_NAME: Final = "web.request_id"
#: Names of the two policies in headers and problems.
_POLICIES: Final = {"rate": "items", "concurrency": "concurrent"}
_TITLES: Final = {"rate": "The rate of the client is used up", "concurrency": "Too many requests at a time"}
#: Bits of an IPv6 address that one client has for itself: RFC 6177.
_OWN_BITS: Final = 64


@dataclass(frozen=True, slots=True)
class Entry:
    """A request at the door: whose it is, unless nobody limits that, and why it is not served, if it is not."""

    client: Client | None = None
    refusal: Refusal | None = None


#: What nobody limits.
FREE: Final = Entry()


class Door:
    """Knows the client of each request, and holds it to its limits. All calls are made in one event loop."""

    def __init__(self, clients: Clients, keyring: Keyring, origins: Container[str] = ()) -> None:
        """Hold clients to their limits, who are known by their keys or addresses.

        Args:
            clients: what they have left.
            keyring: knows keys.
            origins: of pages that may use the API: their browsers ask for them first, with no key, and a page that
                is refused so learns no reason, and no time to come again.
        """
        self._clients = clients
        self._keyring = keyring
        self._origins = origins
        self._audited = Refusals()
        self._refusals = OutageLog(log, "request refused", "requests refused")

    def enter(self, scope: Scope) -> Entry:
        """Let a request in, for `leave`, or say why not."""
        path = scope["path"]
        if not is_limited(path):
            return FREE
        key = self._key(scope["headers"])
        if path.startswith(OPERATING) and self._operates(key):
            return FREE
        if isinstance(key, Subject):
            client = self._clients.of_subject(key.name)
        elif key is not None:
            client = self._clients.of_key(key.id, key.rate, key.concurrency)
        else:
            client = self._clients.of_address(_origin(str(scope["client"][0])))
        if client is None:
            return FREE
        items = 0 if is_preflight(scope["method"], scope["headers"], self._origins) else 1
        if (refusal := self._clients.begin(client, items)) is None:
            if client.cost_ms:
                scope[SPEND] = partial(self._clients.spend, client)
            return Entry(client)
        if key is not None and NOTED in scope:
            scope[NOTED]["key"] = key.id
        whose = "of addresses" if key is None else f"of {key.called}"
        kind = f"the {refusal.limit} {whose} is used up"
        self._audited.note(_call(scope), kind, key.id if key else None, HTTPStatus.TOO_MANY_REQUESTS)
        self._refusals.note(
            kind,
            f"{kind}, first by {client.name}",
            event="client_limited",
            limit=refusal.limit,
            client=client.name,
        )
        return Entry(client, refusal)

    def leave(self, entry: Entry) -> None:
        """Note that a request is over."""
        if entry.client is not None and entry.refusal is None:
            self._clients.end(entry.client)

    def _key(self, headers: Headers) -> Holder | None:
        for name, value in headers:
            if name == b"authorization":
                token = token_of(value.decode("latin-1"))
                return None if token is None else self._keyring.recognise(token)
        return None

    def _operates(self, key: Holder | None) -> bool:
        """Whether a request for operators is of one: others may not use up what it takes to refuse them."""
        return key.rights.allow(Right.ADMIN) if key is not None else not self._keyring.has_any


def _call(scope: Scope) -> Call:
    """A request for the audit log; it is answered under the same name."""
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    name = scope[_NAME] = name_from(given.decode("latin-1"))
    target = target_of(scope["path"], scope["query_string"])
    return Call(scope["method"], target, str(scope["client"][0]), name)


def told(entry: Entry) -> Headers:
    """Headers that tell a client of its limits: see draft-ietf-httpapi-ratelimit-headers-11."""
    client = entry.client
    if client is None:
        return []
    policies = (b"ratelimit-policy", _policies(client.limit))
    if not client.cost_ms:
        return [policies]
    return [policies, (b"ratelimit", f'"items";r={client.left};t={client.full_in_s}'.encode())]


def refused(scope: Scope, client: Client, refusal: Refusal) -> tuple[Headers, bytes]:
    """The answer to a request that was not let in: no thread is taken for it."""
    name: str = scope[_NAME]
    status = HTTPStatus.TOO_MANY_REQUESTS
    problem = Problem(status, f"{refusal.limit}-exceeded", _TITLES[refusal.limit])
    more = {"violated-policies": [_POLICIES[refusal.limit]]}
    text = problem_text(problem, _detail(client.limit, refusal), name, more)
    headers = [
        (b"content-type", CONTENT_TYPE.encode()),
        (b"content-length", str(len(text)).encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"retry-after", str(refusal.retry_after_s).encode()),
        (REQUEST_ID.lower().encode(), name.encode()),
    ]
    return headers, b"" if scope["method"] == "HEAD" else text


@lru_cache(1_000)
def _policies(limit: Limit) -> bytes:
    rate = f'"items";q={limit.quota};w={max(1, round(limit.quota / limit.rate))}' if limit.rate else ""
    concurrency = f'"concurrent";q={limit.concurrency};qu="concurrent-requests"' if limit.concurrency else ""
    return ", ".join(filter(None, (rate, concurrency))).encode()


def _detail(limit: Limit, refusal: Refusal) -> str:
    if refusal.limit == "rate":
        return (
            f"the rate of a client is {limit.rate:g} a second, and {limit.quota} at once; each item of a request "
            f"counts: come again in {refusal.retry_after_s} s"
        )
    return f"a web process answers {counted(limit.concurrency, 'request')} of a client at a time: wait for answers"


@lru_cache(4_096)
def _origin(address: str) -> str:
    """Whoever has an address: of IPv6 one client has many."""
    address = address.partition("%")[0]
    if not is_address(address):
        return address
    found = ip_address(address)
    if not isinstance(found, IPv6Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return f"{IPv6Address(int(found) >> _OWN_BITS << _OWN_BITS)}/{_OWN_BITS}"
