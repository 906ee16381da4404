"""Which tests share a process of pytest-xdist, and which begin first."""

from __future__ import annotations

from pathlib import PurePosixPath

from xdist.scheduler import LoadScopeScheduling

#: Modules on the system that a process of pytest-xdist starts once, in two halves that take equally long. To start
#: it takes longer than most of them.
_HALVES = {
    "greedy": (
        *(
            "greedy",
            "description",
            "generated_client",
            "hot_path",
            "incomplete",
            "keys",
            "public_suites",
            "readme",
        ),
    ),
    "pipeline": (
        *(
            "pipeline",
            "bad_input",
            "dead_letters",
            "exactly_once",
            "example_commands",
            "limits",
            "deadlines",
            "listen",
            "pages",
            "reading",
        ),
    ),
}
_OF_SYSTEM = {f"tests/acceptance/test_{one}.py": half for half, names in _HALVES.items() for one in names}
#: A folder whose modules share a system, and servers that they stop.
_CONSOLE = "tests/acceptance/console"
#: What takes longest begins first, so that short ones fill up the end. All else comes in its order.
_FIRST = [
    *_HALVES,
    "tests/acceptance/test_outages.py",
    "tests/acceptance/test_rabbitmq.py",
    "tests/acceptance/test_versions.py",
    _CONSOLE,
    "tests/acceptance/test_forks.py",
    "tests/acceptance/test_demo.py",
    "tests/acceptance/test_variants.py",
    "tests/acceptance/test_metrics.py",
    "tests/acceptance/test_handover.py",
    "tests/acceptance/test_wheel.py",
    "tests/integration/supervisor/test_refusals.py",
    "tests/integration/doctor/test_workers.py",
    "tests/integration/supervisor/test_up.py",
    "tests/integration/doctor/test_start.py",
]
_RANKS = {unit: rank for rank, unit in enumerate(_FIRST)}


def unit_of(nodeid: str) -> str:
    """What a test belongs to that runs in one process: a module, or modules that share a system."""
    module = nodeid.partition("::")[0]
    folder = str(PurePosixPath(module).parent)
    return folder if folder == _CONSOLE else _OF_SYSTEM.get(module, module)


def rank(nodeid: str) -> int:
    """When its turn is, among all tests."""
    return _RANKS.get(unit_of(nodeid), len(_RANKS))


class Scheduling(LoadScopeScheduling):
    """Gives out units."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)
