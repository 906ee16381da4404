"""What tests of documents share: how `bson` is asked for its opinion, and values that are made for it."""

from __future__ import annotations

import json
import struct

import bson
from bson import json_util
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from hypothesis import settings

from tests.tiers import examples

FEW = settings(max_examples=examples(40))
MORE = settings(max_examples=examples(300))

STANDARD = CodecOptions(
    tz_aware=True,
    datetime_conversion=DatetimeConversion.DATETIME_MS,
    uuid_representation=UuidRepresentation.UNSPECIFIED,
)

RELAXED = json_util.RELAXED_JSON_OPTIONS.with_options(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_MS
)
CANONICAL = json_util.CANONICAL_JSON_OPTIONS.with_options(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_MS
)

UUID_TEXT = "00112233-4455-6677-8899-aabbccddeeff"


def reference(body: bytes) -> str:
    """What `json_util` says, with each float as it is written, so that -0.0 differs from 0."""
    return repr(json.loads(json_util.dumps(bson.decode(body, STANDARD), json_options=RELAXED)))


def nested(levels: int, innermost: object = 1) -> object:
    value = innermost
    for _ in range(levels):
        value = {"a": value}
    return value


def raw(kind: int, value: bytes) -> bytes:
    """A document of one element `x` as it stands in BSON, for the types that `bson` no longer writes."""
    return struct.pack("<i", 8 + len(value)) + bytes([kind]) + b"x\0" + value + b"\0"
