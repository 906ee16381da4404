"""Dead letters in pages: filters, cursors, and bounds of what is read at once."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode

import pytest

from tests.integration.dead_letters.conftest import bury
from writebehind.errors import RequestError
from writebehind.flushing import dead_letters
from writebehind.flushing.dead_letters import Filter, Reason
from writebehind.redis.keys import MOST_PARTITIONS, partition_keys


@pytest.mark.parametrize("limit", [1, 7, 300, 1000])
def test_pages(letters, store, limit):
    """Every letter is on one page, whatever the size of the pages, and the counts are right."""
    names = {f"u{n}" for n in range(250)}
    for name in names:
        bury(store, name)
    bury(store, "home", "pages")

    pages, cursor = [], ""
    while True:
        page = letters.page(Filter(collection="users"), cursor=cursor, limit=limit)
        pages.append([one.letter.id.text for one in page.letters])
        if not (cursor := page.cursor):
            break

    assert all(len(page) == limit for page in pages[:-1])
    assert sorted(names) == sorted(name for page in pages for name in page)
    assert {"users": 250, "pages": 1} == letters.by_collection()
    assert 251 == letters.count()


@pytest.mark.parametrize("cursor", ["x", "MTIz", "WzEsMiwzXQ==", "bnVsbA=="])
def test_a_cursor_that_is_none(letters, cursor):
    """What no page had as its cursor is refused."""
    with pytest.raises(RequestError, match="begin without one"):
        letters.page(Filter(), cursor=cursor)


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (Filter(), "abcd"),
        (Filter(collection="users"), "abc"),
        (Filter(collection="user"), ""),
        (Filter(reason="conflict"), "b"),
        (Filter(code=121), "c"),
        (Filter(after=200.0), "cd"),
        (Filter(before=200.0), "ab"),
        (Filter(after=100.0, before=150.0, code=11000), "ab"),
    ],
)
def test_filters(letters, store, wanted, names):
    """A filter means the letters that fit all of it."""
    bury(store, "a", failed_at=100.0)
    bury(store, "b", failed_at=149.0, reason=Reason.CONFLICT)
    bury(store, "c", failed_at=200.0, code=121)
    bury(store, "d", "pages", failed_at=300.0)

    assert sorted(names) == sorted(one.letter.id.text for one in letters.all(wanted))


def cursor_of(*place: object) -> str:
    return urlsafe_b64encode(json.dumps(place).encode()).decode()


@pytest.mark.parametrize(
    "place",
    [
        (-1_000_000_000_000, "0", ""),
        (-1, "0", ""),
        (4, "0", ""),
        (1 << 70, "0", ""),
        (True, "0", ""),
        (0.0, "0", ""),
        (0, "-1", ""),
        (0, "٣", ""),
        (0, "²", ""),
        (0, "1_0", ""),
        (0, "18446744073709551616", ""),
        (0, "9" * 5000, ""),
        (0, 0, ""),
        (0, "0", None),
        (0, "0", "x" * 2000),
        (0, "0"),
        (0, "0", "", ""),
    ],
)
def test_a_cursor_that_leads_nowhere(letters, place):
    """A place that no page ends at is refused at once: it costs no scan, and no memory."""
    with pytest.raises(RequestError, match="begin without one"):
        letters.page(Filter(), cursor=cursor_of(*place))


def test_only_keys_of_possible_partitions_are_kept():
    """Numbers from outside cannot fill the cache of keys."""
    for number in (-1, MOST_PARTITIONS, 10**12):
        with pytest.raises(ValueError, match="is no partition"):
            partition_keys(number)


def test_a_page_ends_at_so_many_bytes(letters, store, monkeypatch):
    """A page, and what is read for it at once, does not grow with the documents; the next one goes on."""
    monkeypatch.setattr(dead_letters, "MOST_PAGE_BYTES", 100_000)
    for n in range(30):
        bury(store, f"u{n}", fields={"text": "x" * 20_000})
    pages = list(letters.pages(Filter()))
    assert all(sum(len(one.letter.body) for one in page.letters) < 130_000 for page in pages)
    assert 30 == len({one.letter.member for page in pages for one in page.letters})
    [page] = letters.pages(Filter(), bodies=False)
    assert {b""} == {one.letter.body for one in page.letters}


def test_a_page_ends_after_so_many_letters_that_do_not_fit(letters, store, monkeypatch):
    """A filter that nothing fits does not keep a thread until all is looked at."""
    monkeypatch.setattr(dead_letters, "MOST_LOOKED_AT", 25)
    for n in range(100):
        bury(store, f"u{n}")
    pages = list(letters.pages(Filter(code=7)))
    assert len(pages) > 1
    assert not any(page.letters for page in pages)
