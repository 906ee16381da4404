"""The directory of counts: what keeps processes of this host from counting there is found, and told apart."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from writebehind.monitoring import directory as chosen
from writebehind.monitoring.directory import directory_of
from writebehind.operations.doctor import Level, counts
from writebehind.operations.doctor.counts import shutil as disks
from writebehind.settings.running import DATA_DIR, STATE_FILE
from writebehind.tallies import families
from writebehind.tallies.tallies import Tallies


def test_a_directory_in_which_processes_count(tmp_path):
    """It is in order, and so is one that is not there yet, or in which nobody counts any more."""
    path = tmp_path / "some" / "counts"
    assert (Level.OK, f"no process of this host has counted in {path}{counts._ELSEWHERE}") == told(path)
    assert "its WRITEBEHIND_METRICS_DIR" in counts._ELSEWHERE
    tallies = Tallies(path)
    tallies.add(families.WRITES, ("users",))
    assert (Level.OK, f"1 process in {path}") == told(path)
    tallies.close()
    assert (Level.OK, f"nobody counts in {path} now{counts._ELSEWHERE}") == told(path)


def told(path) -> tuple[Level, str]:
    found = counts.counts(path)
    return found.level, found.found


def test_what_stands_in_its_place(tmp_path):
    """A file there, or where a directory above it was, keeps all processes from counting."""
    path = tmp_path / "counts"
    path.touch()
    found = counts.counts(path)
    assert (Level.WARNING, True) == (found.level, "Not a directory" in found.found)
    assert "WRITEBEHIND_METRICS_DIR" in found.advice
    assert Level.WARNING is counts.counts(path / "below").level


def test_a_full_disk(tmp_path, monkeypatch):
    """Who begins has no room, though those that run go on."""
    monkeypatch.setattr(disks, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    found = counts.counts(tmp_path)
    assert (Level.WARNING, True) == (found.level, "is full" in found.found)


def test_rights(tmp_path, monkeypatch):
    """A directory that its own user may not write to, or that cannot be made, is warned of."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "cannot be written" in counts.counts(tmp_path).found
    assert f"cannot be made in {tmp_path}" in counts.counts(tmp_path / "counts").found


def test_the_directory_is_the_one_of_the_processes(settings, tmp_path, monkeypatch):
    """The one that is set, that of the system that runs here on these servers, or what processes choose."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chosen.tempfile, "gettempdir", lambda: str(tmp_path))
    unset = settings.model_copy(update={"metrics_dir": None})
    assert tmp_path == directory_of(unset).parent
    (tmp_path / DATA_DIR).mkdir()
    state = {
        "redis_url": unset.redis_url,
        "mongodb_url": unset.mongodb_url,
        "mongodb_database": unset.mongodb_database,
        "pid": os.getpid(),
        "metrics_dir": "/of/up",
    }
    (tmp_path / DATA_DIR / STATE_FILE).write_text(json.dumps(state))
    assert "/of/up" == str(directory_of(unset))
    (tmp_path / DATA_DIR / STATE_FILE).write_text(json.dumps(state | {"redis_url": "redis://other"}))
    assert tmp_path == directory_of(unset).parent
    assert tmp_path / "set" == directory_of(settings.model_copy(update={"metrics_dir": tmp_path / "set"}))


def test_the_doctor_looks_at_it(patient, tmp_path):
    """It is one of all findings, also where no temporary directory can be had."""
    patient.settings = patient.settings.model_copy(update={"metrics_dir": tmp_path})
    assert [f"nobody counts in {tmp_path} now{counts._ELSEWHERE}"] == [one.found for one in counts.check(patient)]


def test_the_directory_of_what_was_seen_last(patient, tmp_path, monkeypatch):
    """Nobody makes it: one that is missing, or that may not be written, is told, and what is not told then."""

    def found(path):
        patient.settings = patient.settings.model_copy(update={"metrics_dir": tmp_path, "state_dir": path})
        return next(one for one in counts.check(patient) if one.check == "state directory")

    assert Level.OK is found(tmp_path).level
    (tmp_path / "file").touch()
    for name, why in (("away", "is not there"), ("file", "is no directory")):
        one = found(tmp_path / name)
        assert (Level.WARNING, True) == (one.level, why in one.found), one
        assert "make it, or set WRITEBEHIND_STATE_DIR" in one.advice
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "cannot be written" in found(tmp_path).found


def test_a_state_directory_below_one_that_nobody_may_enter(monkeypatch, tmp_path):
    """Nobody can tell what is there, which is no reason to end."""

    def refused(path: Path) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_dir", refused)
    found = counts.state(tmp_path / "closed" / "state")
    assert Level.WARNING == found.level
    assert "cannot be looked at: [Errno 13] Permission denied" in found.found


def test_no_state_directory_is_set(patient, tmp_path):
    """Then nothing is said about it."""
    patient.settings = patient.settings.model_copy(update={"metrics_dir": tmp_path, "state_dir": None})
    assert ["counts"] == [one.check for one in counts.check(patient)]


def test_no_temporary_directory(patient, monkeypatch):
    """Then no process has one that was not told of another."""

    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    patient.settings = patient.settings.model_copy(update={"metrics_dir": None})
    monkeypatch.setattr(chosen.tempfile, "gettempdir", none)
    assert [Level.WARNING] == [one.level for one in counts.check(patient)]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path_factory, monkeypatch) -> None:
    """No system runs in the directory of the tests."""
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))
