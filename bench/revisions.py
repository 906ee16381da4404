"""Two revisions next to each other: the working tree as it is, and the one that is named, checked out beside it.

`python -m bench.revisions BASE [--json FILE]` measures both in turn, by this revision's benchmarks, with servers
of their own for each. It fails where an operation takes more than 10 % more CPU than at BASE. What seems to is
measured once more, for twice as many rounds, and only that counts then: the machine may be busy.
"""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.http import NOBODY, OURS, Contender, serving
from bench.rows import Row, parser, write
from writebehind.local.embedded import EmbeddedMongo, EmbeddedRedis, free_port

ROUNDS = 6
#: Short runs of the web process in a round, of which the least counts: what disturbs one only ever adds.
RUNS, SECONDS = 3, 0.3
#: More CPU per operation than that is too much.
MOST = 1.10
ROOT = Path(__file__).parents[1]

#: Measures the operations of a kind; µs of CPU by the name of each.
Measure = Callable[[], dict[str, float]]


@dataclass
class Compared:
    """One operation, µs of CPU in each round."""

    name: str
    base: list[float] = field(default_factory=list)
    here: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Of the CPU at the base, the median of rounds: what is of one round was measured at the same time."""
        return statistics.median(one / other for one, other in zip(self.here, self.base, strict=True))

    @property
    def is_slower(self) -> bool:
        """Whether that is too much."""
        return self.ratio > MOST


class ForeignPackageError(Exception):
    """What was measured is not of the revision that was meant."""


def rounds(base: Measure, here: Measure, count: int) -> list[Compared]:
    """Measure both in turn, so many times; each is the first in its turn. What only one has is left out."""
    found: dict[str, Compared] = {}
    for turn in range(count):
        if turn % 2:
            those, bases = here(), base()
        else:
            bases, those = base(), here()
        for name in [name for name in bases if name in those]:
            one = found.setdefault(name, Compared(name))
            one.base.append(bases[name])
            one.here.append(those[name])
    return list(found.values())


def judged(base: Measure, here: Measure, count: int) -> list[Compared]:
    """Compare both; what seems slower is what it is in a second lot of rounds, of twice as many."""
    print(f"measuring both, {count} rounds", flush=True)
    found = rounds(base, here, count)
    if not any(one.is_slower for one in found):
        return found
    print(
        f"measuring once more, {2 * count} rounds: {', '.join(one.name for one in found if one.is_slower)}",
        flush=True,
    )
    again = {one.name: one for one in rounds(base, here, 2 * count)}
    return [again[one.name] if one.is_slower else one for one in found]


def table(found: Sequence[Compared], base: str) -> str:
    """The table, with a verdict for each operation."""
    lines = [f"\n  {'µs of CPU for an operation, medians':36} {base[:12]:>12} {'here':>8} {'ratio':>6}"]
    for one in found:
        verdict = "  TOO MUCH" if one.is_slower else ""
        before, now = statistics.median(one.base), statistics.median(one.here)
        lines.append(f"  {one.name:36} {before:12.1f} {now:8.1f} {one.ratio:6.2f}{verdict}")
    return "\n".join(lines)


def rows(found: Sequence[Compared], base: str) -> Iterator[Row]:
    """The same for programs."""
    for one in found:
        yield Row(f"revisions: {one.name}", base, "CPU per operation", "µs", statistics.median(one.base))
        yield Row(f"revisions: {one.name}", "here", "CPU per operation", "µs", statistics.median(one.here))
        yield Row(f"revisions: {one.name}", "here", "CPU per operation, of the base's", "ratio", one.ratio)


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """A worktree of the revision."""
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory).resolve() / "base"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", tree, revision], cwd=ROOT, check=True)
        try:
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)


def probes(tree: Path, mongodb_url: str, database: str, stack: ExitStack) -> Measure:
    """What measures library, codec and drain of a tree, in a new process each time."""
    directory = stack.enter_context(tempfile.TemporaryDirectory())
    redis = stack.enter_context(EmbeddedRedis(directory))
    command = [sys.executable, "-P", ROOT / "bench/probes.py", redis.url, mongodb_url, database]

    def measure() -> dict[str, float]:
        done = subprocess.run(
            command,
            cwd=directory,
            env=_environment(tree, directory),
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        return of(json.loads(done.stdout), tree)

    return measure


def of(found: dict[str, float | str], tree: Path) -> dict[str, float]:
    """What the probes of a tree found.

    Raises:
        ForeignPackageError: they measured a package that lies elsewhere.
    """
    package = found.pop("package")
    if Path(package).parent != tree:
        raise ForeignPackageError(f"{package} was measured, and not the one in {tree}")
    return found


def requests(tree: Path, stack: ExitStack) -> Measure:
    """What measures PUT and GET of a tree's web process."""
    name, command, target = OURS
    directory = stack.enter_context(tempfile.TemporaryDirectory())
    redis = stack.enter_context(EmbeddedRedis(directory))
    environment = _environment(tree, directory) | {
        "REDIS_URL": redis.url,
        "MONGODB_URL": NOBODY,
        "WRITEBEHIND_COLLECTIONS": '{"users": {}}',
    }
    python, *arguments = command(target, port := free_port())
    started = serving(name, [python, "-P", *arguments], port, environment, cwd=tree)
    web: Contender = stack.enter_context(started)
    web.seconds = SECONDS

    def least(method: str) -> float:
        web.forget()
        for _ in range(RUNS):
            web.measure(method)
        return min(web.microseconds)

    def measure() -> dict[str, float]:
        return {f"web: {method}": least(method) for method in ("PUT", "GET")}

    measure()  # connections, scripts and caches are warm after it
    return measure


def _environment(tree: Path, directory: str) -> dict[str, str]:
    """Variables with which Python takes the packages of a tree, and no settings file is read."""
    (config := Path(directory) / "bench.toml").touch()
    return {"PYTHONPATH": str(tree), "WRITEBEHIND_CONFIG": str(config), "WRITEBEHIND_LOG_LEVEL": "error"}


def main() -> None:
    """Compare, print the table, and end with 1 where something is slower."""
    parsing = parser(__doc__)
    parsing.add_argument("base", metavar="BASE", help="a revision")
    given = parsing.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # the worktree goes then as well
    with ExitStack() as stack:
        base = stack.enter_context(checked_out(given.base))
        mongo = stack.enter_context(EmbeddedMongo(stack.enter_context(tempfile.TemporaryDirectory())))
        found = [
            *judged(probes(base, mongo.url, "base", stack), probes(ROOT, mongo.url, "here", stack), ROUNDS),
            *judged(requests(base, stack), requests(ROOT, stack), ROUNDS),
        ]
    print(table(found, given.base))
    if given.json:
        write(rows(found, given.base), given.json)
    if slower := [one.name for one in found if one.is_slower]:
        sys.exit(f"more than {MOST - 1:.0%} slower than {given.base}: {', '.join(slower)}")


if __name__ == "__main__":
    main()
