"""Each grammar of outside text is read exactly, and everything that only resembles it is refused."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from bson import Decimal128, ObjectId
from hypothesis import given
from hypothesis import strategies as st

from writebehind.documents import grammar

UUID_TEXT = "73ffd264-44b3-4c69-90e8-e7d1dfc035d4"
HEX24 = "5f43a1b2c3d4e5f601234567"
INT64 = st.integers(grammar.INT64_MIN, grammar.INT64_MAX)
MILLISECONDS = st.integers(-62_135_596_800_000, 253_402_300_799_999)

READ = [
    (grammar.integer, "0", 0),
    (grammar.integer, "-7", -7),
    (grammar.integer, "9223372036854775807", grammar.INT64_MAX),
    (grammar.integer, "-9223372036854775808", grammar.INT64_MIN),
    (grammar.double, "1", 1.0),
    (grammar.double, "-0.0", -0.0),
    (grammar.double, "+1.5E+3", 1500.0),
    (grammar.double, ".5", 0.5),
    (grammar.double, "5.", 5.0),
    (grammar.double, "1.7976931348623157e308", 1.7976931348623157e308),
    (grammar.double, "-Infinity", -math.inf),
    (grammar.decimal, "1.50", Decimal128("1.50")),
    (grammar.decimal, "-Infinity", Decimal128("-Infinity")),
    (grammar.decimal, "+inf", Decimal128("Infinity")),
    (grammar.decimal, "1E+6144", Decimal128("1E+6144")),
    (grammar.date, "2020-01-01T00:00:00Z", datetime(2020, 1, 1, tzinfo=UTC)),
    (grammar.date, "2020-02-29T23:59:59.5-23:59", datetime(2020, 3, 1, 23, 58, 59, 500_000, UTC)),
    (grammar.date, "2020-01-01T00:00:00.120000+0130", datetime(2019, 12, 31, 22, 30, 0, 120_000, UTC)),
    (grammar.date, "2020-01-01T00:00:00+01", datetime(2019, 12, 31, 23, tzinfo=UTC)),
    (grammar.date, "0001-01-01T00:00:00.001Z", datetime(1, 1, 1, 0, 0, 0, 1_000, UTC)),
    (grammar.date, "9999-12-31T23:59:59.999Z", datetime(9999, 12, 31, 23, 59, 59, 999_000, UTC)),
    (grammar.uuid, UUID_TEXT, UUID(UUID_TEXT)),
    (grammar.uuid, UUID_TEXT.upper(), UUID(UUID_TEXT)),
    (grammar.object_id, HEX24, ObjectId(HEX24)),
    (grammar.object_id, HEX24.upper(), ObjectId(HEX24)),
    (grammar.base64, "", b""),
    (grammar.base64, "aGk=", b"hi"),
    (grammar.base64, "+/+/", b"\xfb\xff\xbf"),
    (grammar.hex_byte, "0", 0),
    (grammar.hex_byte, "fF", 255),
]

#: What does not belong, in front of a text, behind it, or for one of its characters.
STRAY = ["", " ", "\t", "\n", "\r\n", "\0", "_", "\xa0", "\u2028", "\ufeff", "+", "-", "é", "x", "\ud800"]
FOREIGN_DIGITS = ["\u0661", "\uff11", "\u00b2", "\U0001d7d9", "\u0967"]

REFUSED: dict[Callable[[str], Any], list[str]] = {
    grammar.integer: [
        *("+1", "01", "-0", "--1", "1.0", "1e3", "0x1", "1_0", "1 0", "1,0", "0b1", "½"),
        *("9223372036854775808", "-9223372036854775809", "9" * 20, "9" * 5_000, "0" * 5_000),
    ],
    grammar.double: [
        *("1_0", "1_0.5", "1e1_0", "1e", "e1", ".", "1.5.", "1,5", "0x1p3", "--1", "1e400", "-1e999999", "1e5.0"),
        *("inf", "Inf", "infinity", "+Infinity", "-NaN", "nan", "NAN", "INFINITY", "snan", "1f", "1d", "1 e5"),
    ],
    grammar.decimal: [
        *("1_0", "1e1_0", "sNaN", "NaN1", "-NaN123", "1E6145", "1E-6177", "1e", "e1", ".", "0x1", "1,5", "Infi"),
        *("12345678901234567890123456789012345", "1" * 5_000, "infinit", "1e99999999999999999999"),
    ],
    grammar.date: [
        *("2020-01-01", "2020-01-01T00", "2020-01-01T00:00", "2020-01-01T00:00Z", "2020-01-01T00:00:00"),
        *("2020-01-01 00:00:00Z", "2020-01-01t00:00:00Z", "2020-01-01T00:00:00z", "20200101T000000Z"),
        *("2020-W01-1T00:00:00Z", "2020-001T00:00:00Z", "2020-1-1T00:00:00Z", "+2020-01-01T00:00:00Z"),
        *("2020-02-30T00:00:00Z", "2019-02-29T00:00:00Z", "2020-13-01T00:00:00Z", "2020-00-01T00:00:00Z"),
        *("2020-01-01T24:00:00Z", "2020-01-01T00:60:00Z", "2020-01-01T00:00:60Z", "0000-01-01T00:00:00Z"),
        *("2020-01-01T00:00:00.Z", "2020-01-01T00:00:00,5Z", "2020-01-01T00:00:00.9999Z"),
        *("2020-01-01T00:00:00.0001Z", "2020-01-01T00:00:00.123456Z", "2020-01-01T00:00:00.1230000001Z"),
        *("2020-01-01T00:00:00+99:99", "2020-01-01T00:00:00+24:00", "2020-01-01T00:00:00+00:60"),
        *(
            "2020-01-01T00:00:00+1",
            "2020-01-01T00:00:00+010",
            "2020-01-01T00:00:00+01:",
            "2020-01-01T00:00:00+01:0",
            "10000-01-01T00:00:00Z",
        ),
        *("2020-01-01T00:00:00+01:00:00", "2020-01-01T00:00:00Z+01:00", "2020-01-01T00:00:00 +01:00"),
        *("0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-00:01", "2020-01-01T00:00:00[UTC]", "now", "0"),
    ],
    grammar.uuid: [
        *(UUID_TEXT.replace("-", ""), "{" + UUID_TEXT + "}", "urn:uuid:" + UUID_TEXT, UUID_TEXT[:-1]),
        *("7_ffd264-44b3-4c69-90e8-e7d1dfc035d4", "73ff-d26444b-34c6-990e8e-7d1dfc035d4", "0x" + UUID_TEXT[2:]),
        *("----d264-44b3-4--9-90e8-e7d1dfc0----", "73ffd264-44b3-90e8-e7d1dfc035d4", UUID_TEXT + "-789e4"),
    ],
    grammar.object_id: [HEX24[:-1], HEX24 + "0", "0x" + HEX24[2:], HEX24[:-1] + "g", HEX24[:-2] + "_1", "a" * 12],
    grammar.base64: [
        *("aGk", "aGk==", "aGl=", "aG=k", "=", "====", "a", "ab=c", "aGk=aGk=", "aG k", "aGk=\n", "-_-_", "YR=="),
        *("aGk_", "a\xadk=", "\uff41Gk="),
    ],
    grammar.hex_byte: ["", "0x", "100", "-1", "+1", "g", "1_", "0_1", " f", "f "],
}


@pytest.mark.parametrize(("read", "text", "value"), READ)
def test_what_is_read(read, text, value):
    """A text of the grammar becomes the value that it says, of its type and sign."""
    found = read(text)
    assert value == found
    assert type(value) is type(found)
    assert str(value) == str(found)


def test_not_a_number():
    """NaN is read as such, and as the one that it is."""
    assert math.isnan(grammar.double("NaN"))
    assert grammar.decimal("NaN").to_decimal().is_nan()


@pytest.mark.parametrize(("read", "text"), [(read, text) for read, texts in REFUSED.items() for text in texts])
def test_what_is_refused(read, text):
    """A text that only resembles the grammar, or says more than the value can hold, is a ValueError."""
    with pytest.raises(ValueError):
        read(text)


@pytest.mark.parametrize("stray", [*STRAY[1:], *FOREIGN_DIGITS], ids=ascii)
@pytest.mark.parametrize("read", REFUSED, ids=lambda read: read.__name__)
def test_nothing_stray_is_overlooked(read, stray):
    """White space, separators and the digits of other scripts are part of no grammar, wherever they stand."""
    text = next(text for one, text, _ in reversed(READ) if one is read and len(text) > 1)
    for place in range(len(text) + 1):
        for wrong in (text[:place] + stray + text[place:], text[:place] + stray + text[place + 1 :]):
            try:
                found = read(wrong)
            except ValueError:
                continue
            assert set(wrong) <= set("0123456789abcdefABCDEFGHIJKLMNOPQRSTUVWXYZghijklmnopqrstuvwxyz+-/=.:"), found


@given(INT64, INT64, INT64)
def test_integers_and_their_bounds(number, one, other):
    """An integer is read as it is written, if it is within the bounds that its place has."""
    least, most = sorted((one, other))
    if least <= number <= most:
        assert number == grammar.integer(str(number), least, most)
    else:
        with pytest.raises(ValueError):
            grammar.integer(str(number), least, most)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_doubles_survive_their_text(number):
    """The text that Python and JavaScript write for a double is read as that double."""
    assert math.copysign(1, number) == math.copysign(1, grammar.double(repr(number)))
    assert number == grammar.double(repr(number))


@given(st.integers(1 - 10**34, 10**34 - 1), st.integers(-6176, 6111))
def test_decimals_survive_their_text(digits, exponent):
    """A decimal keeps its digits and its exponent."""
    text = f"{digits}E{exponent}"
    assert Decimal(text).as_tuple() == grammar.decimal(text).to_decimal().as_tuple()


@given(MILLISECONDS, st.integers(-23 * 60 - 59, 23 * 60 + 59))
def test_dates_survive_their_text_in_any_zone(milliseconds, minutes):
    """A date is read as the millisecond that it says, in whatever zone it is written, or refused at the edges."""
    wanted = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    try:
        local = wanted.astimezone(timezone(timedelta(minutes=minutes)))
    except OverflowError:
        return
    assert wanted == grammar.date(local.isoformat(timespec="milliseconds"))


@given(st.binary(max_size=40))
def test_base64_survives(data):
    """Any bytes are read from their base64; with any other padding they are refused."""
    text = b64encode(data).decode()
    assert data == grammar.base64(text)
    for wrong in (text + "=", text.rstrip("=") + "\n", text[:-1]):
        if wrong != text:
            with pytest.raises(ValueError):
                grammar.base64(wrong)


@given(st.sampled_from(list(REFUSED)), st.text(max_size=40))
def test_nothing_else_is_raised(read, text):
    """Whatever a text says, it is read or is a ValueError."""
    try:
        read(text)
    except ValueError:
        return
    assert text.isascii()
