"""Values of parameters, from texts and native ones, and filters that stand in settings."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from bson import DatetimeMS, Decimal128, Int64

from writebehind.errors import RequestError
from writebehind.settings.queries import NamedQuery, WarmQuery, read_argument

EAST, WEST = timezone(timedelta(hours=14)), timezone(timedelta(hours=-14))


@pytest.mark.parametrize(
    ("given", "value"),
    [
        *[(one, Int64(5)) for one in (5, Int64(5), 5.0, Decimal128("5.00"), "5", "5.0", "5e0", "0.5E1")],
        *[(one, Int64(0)) for one in (0, -0.0, Decimal128("-0"), "0", "-0", "0.0", "-0e5")],
        *[(one, 0.5) for one in (0.5, Decimal128("0.5"), "0.5", "5e-1")],
        # A text means a double; a Decimal128 that none is equal to stays what it is.
        *[(one, 0.1) for one in (0.1, "0.1", "0.10")],
        (Decimal128("0.1"), Decimal128("0.1")),
        *[(one, Int64((1 << 53) + 1)) for one in ((1 << 53) + 1, "9007199254740993", "9007199254740993.0")],
        ((1 << 63) - 1, Int64((1 << 63) - 1)),
        (str(-(1 << 63)), Int64(-(1 << 63))),
        *[(one, 2.0**63) for one in (1 << 63, float(1 << 63), Decimal128(str(1 << 63)), str(1 << 63))],
        *[(one, 1e300) for one in (1e300, "1e300")],
        (1.7976931348623157e308, 1.7976931348623157e308),
        ("5e-324", 5e-324),
        (Decimal128("1E+6144"), Decimal128("1E+6144")),
        (Decimal128("1E-6176"), Decimal128("1E-6176")),
    ],
)
def test_numbers(given, value):
    """Numbers that are equal to MongoDB are one value, as exact as they are given."""
    found = read_argument(given, "number")
    assert (type(value), value) == (type(found), found)


@pytest.mark.parametrize(
    "given",
    [
        *(
            "",
            " 5",
            "5 ",
            "5\n",
            "1_0",
            "0x5",
            "\u0665",
            "\uff15",
            "five",
            "1e",
            "--1",
            "1,5",
            "nan",
            "NaN",
            "inf",
            "-Infinity",
        ),
        *("1e999", "-1e309", "1e-400", "1e-99999999999999999999", "9" * 400),
        *(str((1 << 63) + 1), str(-(1 << 63) - 1), "1" * 30),
        *((1 << 63) + 1, 10**400, float("nan"), float("inf"), True, None, [], {}, b"5"),
        *(Decimal128(one) for one in ("NaN", "sNaN", "Infinity", "-Infinity")),
    ],
)
def test_what_is_no_number(given):
    """What is none, or would be another one, is refused."""
    with pytest.raises(RequestError, match="type number"):
        read_argument(given, "number")


@pytest.mark.parametrize(
    ("given", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.001+00:00", 1),
        ("0001-01-01T00:00:00Z", -62_135_596_800_000),
        ("0001-01-01T14:00:00+14:00", -62_135_596_800_000),
        ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ("9999-12-31T09:59:59.999-14:00", 253_402_300_799_999),
        (datetime(1, 1, 1, 14, tzinfo=EAST), -62_135_596_800_000),
        (datetime(9999, 12, 31, 9, 59, 59, 999_000, WEST), 253_402_300_799_999),
        *[(DatetimeMS(one), one) for one in (-(1 << 63), -1, 253_402_300_800_000, (1 << 63) - 1)],
    ],
)
def test_dates(given, ms):
    """Up to the edges of what a text, a datetime and BSON can hold."""
    found = read_argument(given, "date")
    assert ms == int(found if isinstance(found, DatetimeMS) else DatetimeMS(found))


@pytest.mark.parametrize(
    "given",
    [
        *("", "now", "2026-01-01", "2026-01-01T00:00:00", "2026-01-01 00:00:00Z", "20260101T000000Z"),
        *(
            "2026-W01-1T00:00:00Z",
            "2026-01-01T00:00:00+99:99",
            "2026-01-01T00:00:00.9999Z",
            "2026-02-30T00:00:00Z",
        ),
        *("2026-01-01T24:00:00Z", "2026-01-01T00:00:60Z", "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z"),
        *("\u0662026-01-01T00:00:00Z", "2026-01-01T00:00:00Z\n", "1767225600000"),
        # In UTC these are dates of the years 0 and 10000.
        *("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-14:00"),
        *(datetime(1, 1, 1, tzinfo=EAST), datetime(9999, 12, 31, 23, tzinfo=WEST)),
        *(datetime(2026, 1, 1), date(2026, 1, 1), 0, None, True),  # noqa: DTZ001 - that it has none is the case
    ],
)
def test_what_is_no_date(given):
    """What is none, or not exactly one point in time, is refused."""
    with pytest.raises(RequestError, match="type date"):
        read_argument(given, "date")


@pytest.mark.parametrize("given", [5, 5.0, Int64(5), Decimal128("5"), "5"])
def test_integers(given):
    """An integer may be any number that is equal to one."""
    assert Int64(5) == read_argument(given, "int")


@pytest.mark.parametrize("kind", [NamedQuery, WarmQuery])
@pytest.mark.parametrize(
    "filter_",
    [
        {"a": {"$undefined": True}},
        {"a": {"$in": [{"$undefined": True}]}},
        {"a": {"$numberDouble": "1_0"}},
        {"a": {"$date": "2026-01-01T00:00:00+99:99"}},
        {"a": 1 << 63},
        {"a": date(2026, 1, 1)},
        {"a": {"$gt": datetime(2026, 1, 1)}},  # noqa: DTZ001 - that it has no time zone is the case
        {"a\0b": 1},
        {"a": "\ud800"},
    ],
)
def test_filters_that_nobody_can_answer(kind, filter_):
    """They are refused at the start, and not when they are asked for."""
    with pytest.raises(ValueError, match=r"deprecated|Extended JSON|asked for|time zone"):
        kind(filter=filter_)


def test_a_sort_that_nobody_can_answer():
    """So are names that cannot be those of fields."""
    with pytest.raises(ValueError, match="asked for"):
        WarmQuery(sort={"a\0b": 1})


def test_a_date_in_the_file():
    """TOML has dates of its own; with a time zone they are BSON's."""
    when = datetime(2026, 1, 1, tzinfo=UTC)
    assert {"a": {"$gte": when}} == NamedQuery(filter={"a": {"$gte": when}}).native
