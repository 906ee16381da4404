"""Where reads are answered from: one definition of the hit ratio, for all who show it."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.prometheus import DEPLOY, ROOT
from writebehind.history.points import COLUMNS, latency
from writebehind.reading.read import HITS, MISSES, Source, hit_ratio

#: Reads by source in a query, and the label by which some are selected.
_READS = re.compile(r"writebehind_read(?:s_total|_duration_seconds_\w+)\{([^}]*)\}")
_SOURCE = re.compile(r'source\s*(=~|!~|!=|=)\s*"([^"]*)"')


def selected(expr: str) -> list[set[str]]:
    """The sources of each series in a query; all of them where none is named."""
    found = []
    for labels in _READS.findall(expr):
        how, names = (*_SOURCE.findall(labels), ("!=", ""))[0]
        named = set(names.split("|")) - {""}
        found.append({*Source} - named if how.startswith("!") else named)
    return found


def test_the_hit_ratio():
    """What Redis had, fresh or stale, of all that it was asked for; what went round it is neither."""
    reads = {"hit": 5, "stale": 1, "miss": 1, "collapsed": 1, "revalidated": 2}
    assert 0.6 == hit_ratio(reads | {"bypass": 90})
    assert hit_ratio({"bypass": 90}) is None
    assert {*Source} - {Source.BYPASS} == {*HITS, *MISSES}
    assert len(Source) == len(HITS) + len(MISSES) + 1


def test_each_source_has_latencies_in_the_history():
    """Also what is read anew because it was stale."""
    assert {latency(one.value, 50) for one in Source} < set(COLUMNS)


def test_the_console_knows_each_source():
    """And no other one."""
    text = (ROOT / "writebehind/flask/console/page/series.js").read_text("utf-8")
    named = re.search(r"const SOURCES = \{(.*?)\};", text, re.DOTALL)[1]
    assert [one.value for one in Source] == re.findall(r"(?m)^  (\w+):", named)


def test_the_rule_divides_hits_by_hits_and_misses():
    """As the status and the history do."""
    groups = yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text("utf-8"))["groups"]
    [rule] = [
        one
        for group in groups
        for one in group["rules"]
        if one.get("record", "").startswith("job:writebehind_hit")
    ]
    assert [{*HITS}, {*HITS, *MISSES}] == selected(rule["expr"])


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Hit ratio by collection", [{*HITS}, {*HITS, *MISSES}]),
        ("Reads with the cache, p50 and p99", [{*HITS}] * 2),
        ("Reads without the cache, p50 and p99", [{*MISSES, Source.BYPASS}] * 2),
    ],
)
def test_panels_select_the_same(title, expected):
    """A panel about hits shows hits, and one about the others all others."""
    rows = yaml.safe_load((DEPLOY / "grafana/panels.yml").read_text("utf-8"))
    [panel] = [one for panels in rows.values() for one in panels if one["title"] == title]
    assert expected == [one for expr in panel["queries"].values() for one in selected(expr)]
