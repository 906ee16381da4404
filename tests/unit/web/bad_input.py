"""Requests that are wrong, and how they are sent."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

ADA = "/v1/users/ada"
OID = "5f43a1b2c3d4e5f601234567"
JSON = {"Content-Type": "application/json"}
MERGE = {"Content-Type": "application/merge-patch+json"}
PATCH = {"Content-Type": "application/json-patch+json"}

NO_JSON = [
    *(
        b"",
        b" ",
        b"{",
        b"}",
        b"nope",
        b"'a'",
        b"{'a':1}",
        b'{"a":1,}',
        b'{"a" 1}',
        b'{"a":}',
        b'{"a":1}x',
        b"{}{}",
    ),
    *(b"[1,", b'"a', b"01", b"+1", b"1.", b".5", b"NaN", b"-Infinity", b'{"a":NaN}', b'{"a":Infinity}', b"1e400"),
    *(b'{"a":0x1}', b"{a:1}", b"// x\n{}", b'{"a":"\t"}', b'{"a":"\\x"}', b'{"a":"\\ud800"}', b'{"\\udc00":1}'),
    *(b'{"a":"\xff"}', b"\xff", b"\xed\xa0\x80", b'{"a":"\xc3"}', b"\0", b"{}\0", b'\xef\xbb\xbf{"a":1}'),
    *('{"a":1}'.encode(encoding) for encoding in ("utf-16", "utf-32")),
    *(b'{"a":' + b"9" * 5000 + b"}", b"9" * 5000),
]


def send(client, target: str, **options: object):
    """Open a path as it is: Werkzeug's client would make a host of the second `/` in `//v1`."""
    path, _, query = target.partition("?")
    environ = {"PATH_INFO": unquote_to_bytes(path).decode("latin-1"), "QUERY_STRING": query}
    return client.open("/", environ_overrides=environ, **options)
