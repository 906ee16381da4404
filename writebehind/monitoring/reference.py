"""All figures for Prometheus as a page of Markdown, from their definitions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from writebehind.monitoring.families import INSTALLATION
from writebehind.tallies.families import FAMILIES, Family, Kind

_INTRODUCTION = """# Metrics

The names of what `/metrics` shows, as Prometheus stores them; those of histograms end in `_bucket`, `_sum` and
`_count`. [Operations](operations.md#metrics) says where to scrape them.
`writebehind metrics > docs/metrics.md` writes this page.
"""


def metrics_reference() -> str:
    """The page."""
    return "\n".join(
        (
            _INTRODUCTION,
            "## Counted by the processes of a host",
            "",
            "Over several hosts they are added up: `sum`.",
            "",
            *_table(FAMILIES.values()),
            "",
            "## Told alike by each host",
            "",
            "Of several hosts one is taken: `max`, or as it says. Some are there only where they are known.",
            "",
            *_table(INSTALLATION.values()),
            "",
        )
    )


def _table(families: Iterable[Family]) -> Iterator[str]:
    yield "| metric | kind | labels | what it says |"
    yield "| --- | --- | --- | --- |"
    for one in families:
        name = f"{one.name}_total" if one.kind is Kind.COUNTER else one.name
        labels = ", ".join(f"`{label}`" for label in one.labels)
        yield f"| `{name}` | {one.kind.value} | {labels} | {one.help} |"
