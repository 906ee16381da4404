"""A chart of rows, as SVG: `python -m bench.chart ROWS CHART FOUND…` writes both of what benchmarks wrote.

By hand: a library would be one more dependency for some rectangles. Colours suit light pages and dark ones.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.sax.saxutils import escape

from bench.rows import Row, read, write

#: Titles of panels, which benchmark they are of as its name begins, and which figure.
PANELS = (
    ("PUT, requests/s: more is better", "peers: PUT", "throughput"),
    ("PUT, µs of CPU for a request: less is better", "peers: PUT", "CPU per request"),
    ("GET, requests/s: more is better", "peers: GET", "throughput"),
    ("GET, µs of CPU for a request: less is better", "peers: GET", "CPU per request"),
    ("Library, µs of CPU for a cached hit: less is better", "libraries: hit", "CPU per call"),
    ("Library, µs of CPU for a put: less is better", "libraries: put", "CPU per call"),
)
OURS = "writebehind"
WIDTH, LEFT, RIGHT = 760, 230, 70
BAR, LINE, TITLE, GAP = 14, 20, 26, 18
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#1f2328}.title{font-weight:600}rect{fill:#8c959f}.ours{fill:#1a7f37}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}rect{fill:#6e7681}.ours{fill:#3fb950}}"
)


def chart(rows: Iterable[Row]) -> str:
    """The chart, with a panel for each of `PANELS` that there are rows for."""
    drawn, top = list[str](), 0
    rows = list(rows)
    for title, benchmark, figure in PANELS:
        bars = [row for row in rows if row.benchmark.startswith(benchmark) and row.figure == figure]
        if bars:
            drawn += _panel(title, bars, top)
            top += TITLE + LINE * len(bars) + GAP
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img" aria-label="Benchmarks">'
    )
    return "\n".join([head, f"<style>{STYLE}</style>", *drawn, "</svg>\n"])


def _panel(title: str, bars: list[Row], top: int) -> Iterator[str]:
    yield f'<text class="title" x="0" y="{top + BAR}">{escape(title)}</text>'
    most = max(row.value for row in bars)
    for at, row in enumerate(bars):
        y = top + TITLE + LINE * at
        width = round((WIDTH - LEFT - RIGHT) * row.value / most, 1)
        kind = ' class="ours"' if row.contender == OURS else ""
        yield f'<text x="{LEFT - 8}" y="{y + 11}" text-anchor="end">{escape(row.contender)}</text>'
        yield f'<rect{kind} x="{LEFT}" y="{y}" width="{width}" height="{BAR}"/>'
        yield f'<text x="{LEFT + width + 6}" y="{y + 11}">{row.value:,.0f}</text>'


if __name__ == "__main__":
    figures, picture, *found = map(Path, sys.argv[1:])
    write((row for file in found for row in read(file)), figures)
    picture.write_text(chart(read(figures)), "utf-8")
