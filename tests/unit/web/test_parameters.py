"""Query parameters: each has one grammar, and takes nothing else that Python takes for a number or a time."""

from __future__ import annotations

import pytest

from tests.unit.web.conftest import problem

#: What no number is, whatever its bounds.
NO_NUMBERS = [
    *("", " 1", "1 ", "%2B1", "-1", "1_0", "1.0", "1e1", "0x1", "%D9%A1", "%C2%B2", "%EF%BC%91", "true", "None"),
    *("9" * digits for digits in (11, 19, 20, 21, 100, 4301, 20_000)),
    *("0" * 20 + "1", "1%00", "1%0A", "1,2", "NaN"),
]
LIMITED = ["/admin/dead-letters", "/admin/conflicts", "/admin/drift", "/admin/hot-keys"]
NO_TIMES = [
    *("", "now", "0", "1e9", "2020-01-01", "20200101T000000Z", "2020-W01-1T00:00:00Z", "2020-01-01T00:00:00"),
    *("2020-01-01 00:00:00Z", "2020-13-01T00:00:00Z", "2020-02-30T00:00:00Z", "2020-01-01T25:00:00Z"),
    *(
        "2020-01-01T00:00:00%2B99:99",
        "2020-01-01T00:00:00%2B24:00",
        "2020-01-01T00:00:00.Z",
        "0000-01-01T00:00:00Z",
    ),
    *("%D9%A2020-01-01T00:00:00Z", "99999-01-01T00:00:00Z", "2020-01-01T00:00:00Zx", "2020-01-01T00:00:00z"),
]


@pytest.mark.parametrize("path", LIMITED)
@pytest.mark.parametrize("given", [*NO_NUMBERS, "0"])
def test_limits(client, path, given):
    """A limit is a number in ASCII digits within its bounds; however long it is, it is no more than that."""
    problem(client.get(f"{path}?limit={given}"), 400, "bad-request")


@pytest.mark.parametrize("given", NO_NUMBERS)
def test_codes(client, given):
    """The same holds for MongoDB's error codes."""
    problem(client.get(f"/admin/dead-letters?code={given}"), 400, "bad-request")


@pytest.mark.parametrize("name", ["after", "before"])
@pytest.mark.parametrize("given", NO_TIMES)
def test_no_times(client, name, given):
    """A time is of RFC 3339, has a zone, and exists."""
    problem(client.get(f"/admin/dead-letters?{name}={given}"), 400, "bad-request")


@pytest.mark.parametrize(
    "given",
    [
        "0001-01-01T00:00:00%2B23:59",
        "9999-12-31T23:59:59.999999-23:59",
        "2020-02-29T23:59:59Z",
        "1969-12-31T00:00:00Z",
    ],
)
def test_times(client, given):
    """Every time that has a form has a meaning, also where Python's dates end."""
    assert 200 == client.get(f"/admin/dead-letters?after={given}").status_code


@pytest.mark.parametrize("given", ["yes", "", "TRUE", "2", "tru"])
def test_flags(client, given):
    """A flag that is neither true nor false is refused, as it would silently be false."""
    problem(client.get(f"/admin/status?partitions={given}"), 400, "bad-request")


@pytest.mark.parametrize(
    "path",
    [
        "/admin/status?partitions=true&partitions=false",
        "/admin/dead-letters?limit=1&limit=2",
        "/admin/dead-letters?collection=users&collection=free",
        "/admin/hot-keys?limit=1&limit=1",
        "/v1/users/ada?x=1",
    ],
)
def test_twice_or_unknown(client, path):
    """A parameter that is given twice, or that nobody takes, is refused."""
    client.put("/v1/users/ada", json={})
    problem(client.get(path), 400, "bad-request")


def test_durability_twice(client, installation):
    """Of two levels neither is chosen silently."""
    path = "/v1/users/ada?durability=buffered&durability=persisted"
    problem(client.put(path, json={}), 400, "bad-request")
    assert [] == installation.stored()
