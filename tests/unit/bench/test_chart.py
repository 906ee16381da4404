"""The chart of benchmarks."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

from bench.chart import LEFT, PANELS, RIGHT, WIDTH, chart
from bench.rows import Row, read

DOCS = Path(__file__).parents[3] / "docs"
_SVG = "{http://www.w3.org/2000/svg}"
_ROWS = [
    Row("peers: PUT, 194 bytes", "bare <Flask> & more", "throughput", "requests/s", 2_000),
    Row("peers: PUT, 194 bytes", "writebehind", "throughput", "requests/s", 1_000),
    Row("peers: PUT, 194 bytes", "writebehind", "throughput, of the floor's", "ratio", 0.5),
    Row("http: PUT, 194 bytes", "writebehind", "throughput", "requests/s", 9_000),
]


def drawn(rows: list[Row]) -> ET.Element:
    """The chart of rows, taken apart."""
    return ET.fromstring(chart(rows))  # noqa: S314 - it is ours


def test_bars_are_as_long_as_values_are_great():
    """The greatest has the whole width; ours is marked; rows of other benchmarks and figures are left out."""
    bars = drawn(_ROWS).findall(f"{_SVG}rect")

    assert [WIDTH - LEFT - RIGHT, (WIDTH - LEFT - RIGHT) / 2] == [float(one.get("width")) for one in bars]
    assert [None, "ours"] == [one.get("class") for one in bars]


def test_names_and_values_stand_at_the_bars():
    """Below the title of the panel, as they are."""
    texts = [one.text for one in drawn(_ROWS).findall(f"{_SVG}text")]

    assert [PANELS[0][0], "bare <Flask> & more", "2,000", "writebehind", "1,000"] == texts


def test_all_of_it_is_within_the_picture():
    """Whatever number of panels there is."""
    rows = [Row(f"{benchmark}, x", "it", figure, "", 1) for _, benchmark, figure in PANELS]
    picture = drawn(rows)
    bottoms = [float(one.get("y")) + float(one.get("height")) for one in picture.findall(f"{_SVG}rect")]

    assert len(PANELS) == len(bottoms)
    assert max(bottoms) < float(picture.get("viewBox").split()[-1])


def test_the_chart_in_the_docs_is_of_the_figures_beside_it():
    """`make chart` writes both; each panel has rows, and ours among them."""
    rows = read(DOCS / "benchmarks.json")

    assert chart(rows) == (DOCS / "benchmarks.svg").read_text("utf-8")
    assert len(PANELS) == len(re.findall('class="ours"', chart(rows)))
