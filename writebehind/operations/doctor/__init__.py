"""Is this installation fit to keep what it acknowledges? Each check judges what it finds, and says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points

from writebehind.errors import ConfigurationError, RedisUnavailableError
from writebehind.operations.doctor import access, api, counts, mongodb, processes, redis, totals
from writebehind.operations.doctor.failover import configuration
from writebehind.operations.doctor.findings import Check, Finding, Level, failure, ok, warning
from writebehind.pipeline import Pipeline

__all__ = ["Check", "Finding", "Level", "check_start", "configuration", "examine", "failure", "ok", "warning"]

#: Other packages add checks under this entry point: functions that take a pipeline and yield findings.
ENTRY_POINTS = "writebehind.operations.doctor"


def examine(pipeline: Pipeline) -> Iterator[Finding]:
    """Run every check, also those of other packages. A server that does not answer is a finding.

    What cannot be known without Redis is one finding, of all checks that ask it. The checks run side by side, so
    that servers that hang are waited for once and not one after the other.
    """
    parts = (redis, mongodb, processes, totals, counts, access, api)
    checks: dict[str, Check] = {one.__name__.rpartition(".")[2]: one.check for one in parts}
    missing = []
    for point in entry_points(group=ENTRY_POINTS):
        try:
            checks[point.name] = point.load()
        except ModuleNotFoundError as error:  # it belongs to an extra
            missing.append(ok(point.name, f"not asked: {error.name} is not installed here"))
    unknown: dict[str, str] = {}
    with ThreadPoolExecutor(len(checks), thread_name_prefix="doctor") as threads:
        asked = threads.map(lambda check: _asked(check, pipeline), checks.values())
        for name, (found, reason) in zip(checks, asked, strict=True):
            yield from found
            if reason:
                unknown[name] = reason
    if unknown:
        yield failure(", ".join(unknown), f"not known: {next(iter(unknown.values()))}", "see to Redis first")
    yield from missing


def _asked(check: Check, pipeline: Pipeline) -> tuple[list[Finding], str]:
    """The findings of a check, and the reason for which it can find no more: '' where there is none."""
    found: list[Finding] = []
    try:
        found.extend(check(pipeline))
    except RedisUnavailableError as error:
        return found, str(error)
    return found, ""


def check_start(pipeline: Pipeline) -> list[Finding]:
    """The part that a process runs when it starts: what Redis says of itself.

    What may pass by itself, such as a full disk, keeps no process from starting: reads are served, and `/readyz`
    tells the rest.

    Returns:
        What is not in order, but lets the process start.

    Raises:
        ConfigurationError: something would lose data, or Redis is divided differently.
        RedisUnavailableError: Redis does not answer, or takes no writes.
    """
    found = [one for one in redis.fitness_of_all(pipeline.store.facts()) if one.level is not Level.OK]
    for one in found:
        if one.fatal:
            raise ConfigurationError(f"{one.found}: {one.advice}")
    pipeline.check()
    return found
