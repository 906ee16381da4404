"""The directory of counts that nobody has set: the same for all processes, and of their user alone."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from writebehind import load_settings
from writebehind.monitoring import directory
from writebehind.monitoring.directory import VARIABLE, share_counts


@pytest.fixture(autouse=True)
def own(monkeypatch, tmp_path) -> Path:
    """Temporary files of the test's own."""
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr(directory.tempfile, "gettempdir", lambda: str(tmp_path))
    return tmp_path


def test_processes_of_one_installation_share_it(own, monkeypatch):
    """Whatever the password is by now; others have another one, and nobody else may look into it."""
    first = share_counts(load_settings(redis_url="redis://:one@db:6379/0")).metrics_dir
    monkeypatch.delenv(VARIABLE)
    again = share_counts(load_settings(redis_url="redis://:two@db:6379/0")).metrics_dir
    monkeypatch.delenv(VARIABLE)
    other = share_counts(load_settings(redis_url="redis://:one@db:6379/1")).metrics_dir

    assert first == again != other
    assert first.parent == own
    assert stat.S_IMODE(first.stat().st_mode) == 0o700


def test_children_get_it(own):
    """By their environment, as settings do."""
    assert share_counts(load_settings()).metrics_dir == load_settings().metrics_dir


def test_a_directory_that_is_set_is_taken(own):
    """As it is."""
    assert share_counts(load_settings(metrics_dir=own / "mine")).metrics_dir == own / "mine"


def test_no_temporary_directory(monkeypatch, caplog):
    """A read-only file system is no reason not to start: the process counts for itself, and says so."""

    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(directory.tempfile, "gettempdir", none)
    assert share_counts(load_settings()).metrics_dir is None
    assert [f"no page shows what this process counts, set {VARIABLE}"] == [
        one.partition(":")[0] for one in caplog.messages
    ]


@pytest.mark.parametrize("made", ["link", "file", "of another user"])
def test_what_others_have_put_there_is_not_used(own, monkeypatch, caplog, made):
    """Who may change the directory could end a process that writes into it."""
    path = share_counts(load_settings()).metrics_dir
    monkeypatch.delenv(VARIABLE)
    if made == "of another user":
        monkeypatch.setattr(directory.os, "getuid", lambda: path.stat().st_uid + 1)
        path.rename(own / path.name.replace(f"-{path.stat().st_uid}-", f"-{path.stat().st_uid + 1}-"))
    else:
        path.rmdir()
        target = own / "elsewhere"
        target.mkdir()
        path.symlink_to(target) if made == "link" else path.touch()

    assert share_counts(load_settings()).metrics_dir is None
    assert len(caplog.messages) == 1
