"""Requests of all kinds, made at random: most are plain, and each of the others differs in some way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from tests.unit.web.bad_input import NO_JSON, OID
from writebehind.access.keys import ApiKey, Token
from writebehind.access.rights import Rights
from writebehind.documents.nesting import MAX_DEPTH

Header = tuple[bytes, bytes]

TYPE = (b"content-type", b"application/json")
#: Tokens of keys by what they are, and one of none.
TOKENS = {
    name: Token(f"{at:012d}", "s" * 43) for at, name in enumerate(("all", "reads", "writes", "late", "slow"))
}
#: Who has it waits for 5,000 s, and no whole number of digits less.
_LEAST_RATE = 0.0002
_GRANTS = {"reads": ["*:read"], "writes": ["users:write"]}


def keys() -> list[ApiKey]:
    """Keys that may do all with documents, or read or write alone; one has expired, and one is slow."""
    return [
        ApiKey(
            token.id,
            name,
            Rights.parse(_GRANTS.get(name, ["*:read,write"])),
            0,
            1 if name == "late" else None,
            token.digest,
            rate=_LEAST_RATE if name == "slow" else None,
        )
        for name, token in TOKENS.items()
    ]


@dataclass(frozen=True)
class Asked:
    """A request as granian brings it."""

    method: str
    path: bytes
    query: bytes
    headers: tuple[Header, ...]
    body: bytes


_COLLECTIONS = [
    *("users", "users", "users", "users", "orders", "numbers", "keys", "named", "free", "strict", "people"),
    *("through", "around", "events", "nope", "receipts", "us%65rs", "us%C3%A9rs", "USERS", "users:get", ""),
]
_IDS = [
    *("ada", "bob", "carl", "dora", "5", "-5", "007", OID, OID.upper(), "6f1e0a52-7b3c-4f0d-9f6e-0c1d2e3f4a5b"),
    *("a%20b", "a%2Fb", "a%2fb", "%61da", "a:b", "ada:increment", "ada:update", ":get", ":", ".", "..", "%2e%2e"),
    *(
        "a%00b",
        "%C3%A9",
        "%FF",
        "%zz",
        "%",
        "%25",
        "%2561",
        "a|b",
        "a;b=c",
        "$x",
        "~",
        "queries",
        "ada%3Fx",
        "%0A",
    ),
    *(
        "a+b",
        "a%2Bb",
        '"',
        "<x>",
        "\\",
        "{",
        "x" * 200,
        "x" * 2000,
        "",
        "\xe9",
        "\xff",
        "ada%7F",
        "a'b",
        "*",
        "ada%23",
    ),
]
_QUERIES = [b"x", b"durability=persisted", b"durability=", b"fields=name", b"fields=%FF", b"limit=1", b"%"]
#: Headers that make a request another one, or do not.
_OTHERS: list[Header] = [
    *(
        (b"accept", one)
        for one in (b"*/*", b"application/json", b"text/html", b"application/json;profile=canonical")
    ),
    *((b"accept", one) for one in (b"application/json; Profile=relaxed", b"application/json;profile=none", b"")),
    *((b"x-request-id", one) for one in (b"mine", b"x" * 300, b"\xe9", b"a b", b"", b"mine")),
    *((b"if-match", one) for one in (b"*", b'"x"', b"W/", b"")),
    *((b"if-none-match", one) for one in (b"*", b'"x"', b"")),
    *((b"if-unmodified-since", b"x"), (b"if-modified-since", b"x"), (b"range", b"bytes=0-1")),
    *((b"origin", one) for one in (b"https://evil.example", b"http://localhost", b"null")),
    *((b"sec-fetch-site", one) for one in (b"cross-site", b"same-origin")),
    *((b"sec-fetch-mode", b"cors"), (b"referer", b"https://evil.example/x")),
    *((b"content-encoding", one) for one in (b"gzip", b"identity")),
    *(
        (b"expect", b"100-continue"),
        (b"prefer", b"return=minimal"),
        (b"cookie", b"a=b"),
        (b"user-agent", b"curl/8"),
    ),
    *((b"traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"), (b"tracestate", b"x=y")),
    *((b"x-forwarded-for", b"1.2.3.4"), (b"x-forwarded-host", b"evil.example"), (b"forwarded", b"host=evil")),
    *(
        (b"if_match", b"*"),
        (b"x_request_id", b"other"),
        (b"script-name", b"/x"),
        (b"x-http-method-override", b"PUT"),
    ),
    *(
        (b"connection", b"keep-alive"),
        (b"accept-encoding", b"gzip"),
        (b"accept-language", b"de"),
        (b"te", b"trailers"),
    ),
    *((b"cache-control", b"no-cache"), (b"pragma", b"no-cache"), (b"via", b"1.1 x"), (b"x-unknown", b"x")),
    *((b"content-type", b"application/json"), (b"host", b"localhost"), (b"authorization", b"Basic YTpi")),
]
#: Idempotency keys: few, so that many are sent again with the same request or another one; and what is none.
_KEYS = [
    *(b"k", b'"k"', b'"k";p=1', b"l", b'"a b"', b'"a\\"b"', b"8e03978e-40d5-43e8-bc93-6894a57f9324"),
    *(b"", b'""', b'"', b"a b", b"k,k", b'"k","k"', b"\xe9", b'"\x7f"', b"x" * 255, b"x" * 256),
]
_TYPES = [
    *(b"application/json; charset=utf-8", b"APPLICATION/JSON", b"application/json ", b"text/plain", b""),
    *(b"application/x-www-form-urlencoded", b"application/merge-patch+json", b"application/json-patch+json"),
]
_HOSTS = [b"evil.example", b"LOCALHOST:8000", b"127.0.0.1", b"", b"local host"]
#: What is sent as a key: first one that may do all.
OF_KEYS = [
    *(b"Bearer " + one.text.encode() for one in TOKENS.values()),
    *(
        b"bearer  " + TOKENS["all"].text.encode() + b" ",
        b"Bearer wb_000000000000_" + b"x" * 43,
        b"Bearer",
        b"",
        b"x",
    ),
    *(b"Bearer " + TOKENS["all"].text.encode() + b"\xe9", b"Bearer ey.a.b"),
]


def bodies(most_bytes: int) -> list[bytes]:
    """Bodies: documents, and what is none, among them some at each threshold of what is taken."""
    deep = MAX_DEPTH - 1
    holders = most_bytes // 8
    return [
        *(
            b'{"name":"Ada"}',
            b'{"n":%d}' % (1 << 63),
            b'{"n":-9223372036854775808}',
            b"{}",
            b" {} ",
            b"[]",
            b"null",
        ),
        *(b'{"_id":"ada"}', b'{"_id":"bob","name":"Bob"}', b'{"_id":5}', b'{"_id":{"$oid":"%s"}}' % OID.encode()),
        *(
            b'{"_v":1}',
            b'{"$x":1}',
            b'{"a":{"$x":1}}',
            b'{"a.b":1}',
            b'{"a":1,"a":2}',
            b'{"":1}',
            b'{"a\\u0000":1}',
        ),
        *(
            b'{"d":{"$date":"2026-01-01T00:00:00Z"}}',
            b'{"d":{"$date":"x"}}',
            b'{"n":1e999}',
            b'{"n":1.5,"m":-0.0}',
        ),
        *(b'{"t":{"$timestamp":{"t":0,"i":0}}}', b'{"name":5}', b'{"n":' + b"9" * 40 + b"}", b'{"a":null}'),
        *(b'{"a":' * depth + b"1" + b"}" * depth for depth in (deep, deep + 1, deep + 2, 1000)),
        *(b'{"a":[' + b",".join([b"[]"] * count) + b"]}" for count in (holders - 3, holders - 2, holders - 1)),
        *(b'{"x":"%s"}' % (b"x" * (most_bytes - more)) for more in (40, 22, 21, 20, 9, 8, 7, 0)),
        *NO_JSON,
    ]


def requests(random: Random, count: int, most_bytes: int, given: Sequence[bytes] = ()) -> Iterator[Asked]:
    """So many requests; where there are values to be `given` in `Authorization`, most have the first of these."""
    every = bodies(most_bytes)
    for _ in range(count):
        yield _one(random, every, given)


def _one(random: Random, every: list[bytes], given: Sequence[bytes]) -> Asked:
    odd = random.random
    methods = ["HEAD", "POST", "DELETE", "PATCH", "OPTIONS", "get", "Put", "TRACE", "CONNECT", "X" * 50]
    method = random.choice(methods) if odd() < 0.1 else random.choice(["GET", "PUT"])
    collection = random.choice(_COLLECTIONS) if odd() < 0.25 else "users"
    name = random.choice(_IDS) if odd() < 0.3 else random.choice(_IDS[:4])
    path = random.choice(["//v1/{}/{}", "/v1//{}/{}", "/V1/{}/{}", "/v1/{}/{}/", "/v1/{}{}", "/v1/{}", "/{}/{}"])
    target = (path if odd() < 0.05 else "/v1/{}/{}").format(collection, name).encode("latin-1")
    headers: list[Header] = [(b"host", random.choice(_HOSTS) if odd() < 0.05 else b"localhost")]
    if odd() < 0.02:
        headers = []
    body = b""
    if method == "PUT" or odd() < 0.05:
        body = random.choice(every) if odd() < 0.25 else random.choice(every[:2])
        headers += [(b"content-type", random.choice(_TYPES))] if odd() < 0.1 else [TYPE] if odd() < 0.97 else []
        chunked = (b"transfer-encoding", random.choice([b"chunked", b"gzip, chunked"]))
        headers += [chunked if odd() < 0.05 else (b"content-length", str(len(body)).encode())]
    if given and odd() < 0.9:
        token = random.choice(given) if odd() < 0.25 else given[0]
        headers.append((b"authorization", token))
    if odd() < 0.2:
        some = _KEYS if odd() < 0.3 else _KEYS[:4]
        headers += [(b"idempotency-key", one) for one in random.choices(some, k=2 if odd() < 0.1 else 1)]
    headers += random.choices(_OTHERS, k=random.choice([0, 0, 0, 0, 0, 1, 1, 3]))
    random.shuffle(headers)
    query = random.choice(_QUERIES) if odd() < 0.05 else b""
    return Asked(method, target, query, tuple(headers), body)
