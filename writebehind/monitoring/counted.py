"""Counts of the processes on this host, as Prometheus's families."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from writebehind.reconcile.losses import Fate
from writebehind.tallies.families import FAMILIES, LOST_WRITES, REFUSED_WRITES, Family, Kind
from writebehind.tallies.files import Series
from writebehind.writing.failures import CAPS


def counted(numbers: Mapping[Series, list[float]], listed: Iterable[str] = ()) -> Iterator[Metric]:
    """Every family, also one of which nothing was counted yet.

    Refused writes of `listed` collections and lost ones are there before the first: a counter that begins with
    more than 0 shows no rate for these, and there is an alert on each.
    """
    every: dict[Series, list[float]] = {
        (REFUSED_WRITES.name, (collection, cap)): [0.0] for collection in listed for cap in CAPS.values()
    } | {(LOST_WRITES.name, (fate.value,)): [0.0] for fate in Fate}
    every.update(numbers)
    found: dict[str, list[tuple[tuple[str, ...], list[float]]]] = {}
    for (name, labels), values in sorted(every.items()):
        found.setdefault(name, []).append((labels, values))
    for name, family in FAMILIES.items():
        yield as_metric(family, found.get(name, [] if family.labels else [((), [0.0] * family.slots)]))


def as_metric(family: Family, found: Iterable[tuple[tuple[str, ...], Sequence[float]]]) -> Metric:
    """A family with its series: the values of their labels, and their numbers; see `Family.slots`."""
    metric: CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
    if family.kind is Kind.HISTOGRAM:
        metric = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        bounds = [*map(floatToGoString, family.bounds), "+Inf"]
        for labels, (total, *counts) in found:
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            metric.add_metric(labels, buckets=buckets, sum_value=total)
        return metric
    kind = CounterMetricFamily if family.kind is Kind.COUNTER else GaugeMetricFamily
    metric = kind(family.name, family.help, labels=family.labels)
    for labels, (value,) in found:
        metric.add_metric(labels, value)
    return metric
