"""The systemd units: systemd takes them, they run what the Procfile runs, and no process has rights."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.prometheus import DEPLOY, ROOT
from writebehind.celery import names
from writebehind.local.procfile import read_procfile
from writebehind.settings.config_file import CONFIG_FILE_VARIABLE
from writebehind.settings.installation import ENV_PREFIX, Settings

UNITS = DEPLOY / "systemd"
COMMON = UNITS / "writebehind-.service.d/all.conf"
SERVICES = sorted(UNITS.glob("*.service"))
#: Where the package is installed.
PROGRAM = "/opt/writebehind/bin/writebehind"
#: The exposure that systemd finds in what has all rights is 96, of 100.
MOST_EXPOSED = 20
ANALYZE = shutil.which("systemd-analyze")
#: The first that looks at units without a running systemd.
OLDEST = 250


def systemd_version() -> int:
    """The version of systemd; 0 where it is not installed."""
    if not ANALYZE:
        return 0
    said = subprocess.run([ANALYZE, "--version"], capture_output=True, text=True, check=True).stdout
    return int(re.search(r"systemd (\d+)", said)[1])


needs_systemd = pytest.mark.skipif(systemd_version() < OLDEST, reason=f"systemd {OLDEST} is not installed")


def entries(unit: Path) -> list[tuple[str, str]]:
    """What a unit sets, in its order: a name may stand there more than once."""
    lines = [line for line in unit.read_text("utf-8").splitlines() if line and line[0] not in "#["]
    return [(name, value) for name, _, value in (line.partition("=") for line in lines)]


def values(unit: Path, name: str) -> list[str]:
    return [value for key, value in entries(unit) if key == name]


def command(unit: Path) -> list[str]:
    """The arguments of its process."""
    [line] = values(unit, "ExecStart")
    [program, *words] = shlex.split(line.replace("%%", "%"))
    assert program == PROGRAM
    return words


@pytest.fixture
def installed(tmp_path) -> Path:
    """Units whose program there is: systemd looks for it."""
    program = tmp_path / "writebehind"
    program.write_text("#!/bin/sh\n", "utf-8")
    program.chmod(0o755)
    shutil.copytree(UNITS, tmp_path / "units")
    for unit in (tmp_path / "units").glob("*.service"):
        unit.write_text(unit.read_text("utf-8").replace(PROGRAM, str(program)), "utf-8")
    return tmp_path / "units"


def analyze(*words: object) -> str:
    """Call systemd-analyze: what it says, and how it has ended."""
    done = subprocess.run([str(ANALYZE), *map(str, words)], capture_output=True, text=True, check=False)
    return f"{done.stderr}{done.stdout if done.returncode else ''}{done.returncode}"


def files(directory: Path) -> Sequence[Path]:
    return sorted([*directory.glob("*.service"), *directory.glob("*.target")])


@needs_systemd
def test_systemd_finds_no_fault(installed):
    """It takes each unit, with what all have in common, and says nothing of it."""
    assert analyze("verify", *files(installed)) == "0"


@needs_systemd
@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.stem)
def test_no_process_has_rights(installed, unit):
    """Systemd sees that little could be done by whoever took a process over."""
    said = analyze(
        "security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", installed / unit.name
    )

    assert said == "0"


def test_the_units_run_what_the_procfile_runs():
    """Each process but Flower has a unit with its options; workers are one for each queue."""
    procfile = {
        name: shlex.split(line.removeprefix(f"exec {Path(PROGRAM).name}"))
        for name, line in read_procfile(ROOT / "Procfile").items()
    }
    found = {unit.stem.removeprefix("writebehind-"): command(unit) for unit in SERVICES}
    worker = found.pop("worker@")

    assert {name: procfile[name] for name in procfile.keys() - {"worker", "maintenance", "flower"}} == found
    for name, queue in (("worker", "flush,refresh"), ("maintenance", "maintenance")):
        wanted = [
            queue if one == "%i" else one.replace("%i@", f"${{HONCHO_PROCESS_NAME:-{name}}}@") for one in worker
        ]
        assert procfile[name] == wanted


def test_the_target_starts_every_unit_and_every_queue():
    """Whoever starts it has all processes, and a worker of each queue; they stop with it."""
    wanted = {one for line in values(UNITS / "writebehind.target", "Wants") for one in line.split()}

    workers = {f"writebehind-worker@{queue}.service" for queue in names.QUEUES}
    assert wanted == {unit.name for unit in SERVICES if "@" not in unit.name} | workers
    assert ["writebehind.target"] == values(COMMON, "PartOf")


def test_every_variable_is_a_setting():
    """Units set nothing that the settings do not know, and what is secret or of one place stands in a file."""
    known = {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields} | {CONFIG_FILE_VARIABLE}
    given = [value.partition("=")[0] for unit in (COMMON, *SERVICES) for value in values(unit, "Environment")]

    assert given
    assert set(given) <= known
    assert ["/etc/writebehind/environment"] == values(COMMON, "EnvironmentFile")


def test_processes_share_their_counts_and_no_file_of_life():
    """The directory of counts is one for all and outlives each; the file by which one is watched is its own."""
    directory = values(COMMON, "RuntimeDirectory")[0]
    assert f"WRITEBEHIND_METRICS_DIR=%t/{directory}" in values(COMMON, "Environment")
    assert ["yes"] == values(COMMON, "RuntimeDirectoryPreserve")

    watched = {unit.stem: values(unit, "Environment") for unit in SERVICES if values(unit, "Environment")}
    own = [f"WRITEBEHIND_ALIVE_FILE=%t/{directory}/%N.alive"]
    assert watched == dict.fromkeys(("writebehind-beat", "writebehind-listen", "writebehind-worker@"), own)


def test_what_was_only_in_redis_outlives_a_reboot():
    """It is kept apart from the counts, which do not."""
    [directory] = values(COMMON, "StateDirectory")
    assert f"WRITEBEHIND_STATE_DIR=%S/{directory}" in values(COMMON, "Environment")


def test_processes_come_back_and_have_the_time_that_they_take_to_end():
    """A process is started again however often it ends, and a worker may finish its batch."""
    assert (["always"], ["0"]) == (values(COMMON, "Restart"), values(COMMON, "StartLimitIntervalSec"))
    longest_s = Settings.model_fields["mongodb_timeout_ms"].default / 1000
    assert int(values(COMMON, "TimeoutStopSec")[0]) > 2 * longest_s


def test_no_watchdog_waits_for_what_no_process_says():
    """Processes tell systemd nothing, so none is killed for its silence, nor waited for until it speaks."""
    for unit in (COMMON, *SERVICES):
        assert [] == values(unit, "WatchdogSec")
        assert "notify" not in values(unit, "Type")
