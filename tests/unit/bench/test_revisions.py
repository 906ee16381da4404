"""The comparison of two revisions: whose turn it is, and the verdict."""

from __future__ import annotations

import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

import bench.revisions
from bench.revisions import ROOT, Compared, ForeignPackageError, checked_out, judged, of, rounds, rows, table


def steady(value: float):
    """A measure that always finds the same."""
    return lambda: {"put": value}


@pytest.mark.parametrize(
    ("here", "slower"), [(100, False), (109, False), (110, False), (111, True), (200, True), (50, False)]
)
def test_more_than_a_tenth_more_is_too_much(here, slower):
    """To the percent; less is never."""
    [one] = judged(steady(100), steady(here), 4)

    assert (here / 100, slower) == (one.ratio, one.is_slower)


def test_rounds_are_compared_one_by_one():
    """A machine that gets slower slows both; one round that was disturbed is outvoted."""
    one = Compared("put", base=[10, 20, 40], here=[11, 200, 44])

    assert (1.1, False) == (one.ratio, one.is_slower)


def test_each_is_first_in_its_turn():
    """And what only one of them has is left out."""
    turns = []

    def measuring(name: str, *has: str):
        return lambda: turns.append(name) or dict.fromkeys(has, 1.0)

    found = rounds(measuring("base", "put", "gone"), measuring("here", "put", "new"), 3)

    assert ["base", "here", "here", "base", "base", "here"] == turns
    assert [("put", 3, 3)] == [(one.name, len(one.base), len(one.here)) for one in found]


def test_what_seems_slower_is_measured_once_more(capsys):
    """With twice as many rounds, of which alone it is judged; what was well stays as it was measured."""
    turns = count()

    def here() -> dict[str, float]:
        return {"put": 150 if next(turns) < 2 else 100, "get": 100}

    put, get = judged(lambda: {"put": 100, "get": 100}, here, 2)

    assert (False, 4) == (put.is_slower, len(put.here))
    assert 2 == len(get.here)
    assert "measuring both, 2 rounds\nmeasuring once more, 4 rounds: put\n" == capsys.readouterr().out


def test_what_is_slower_twice_is_slower():
    """The second lot has the last word."""
    [one] = judged(steady(100), steady(150), 2)

    assert (True, 4) == (one.is_slower, len(one.here))


def test_the_table_says_what_is_too_much():
    """By base and here, with the ratio."""
    found = [Compared("web: PUT", [100.0], [150.0]), Compared("web: GET", [100.0], [90.0])]
    head, put, get = table(found, "main").strip().splitlines()

    assert ["main", "here", "ratio"] == head.split()[-3:]
    assert ["web:", "PUT", "100.0", "150.0", "1.50", "TOO", "MUCH"] == put.split()
    assert ["web:", "GET", "100.0", "90.0", "0.90"] == get.split()
    assert [100, 150, 1.5] == [row.value for row in rows(found[:1], "main")]


def test_another_package_than_that_of_the_tree_is_refused(tmp_path):
    """Both would be the same one, and nothing would ever be slower."""
    assert {"put": 1.0} == of({"package": f"{tmp_path}/writebehind", "put": 1.0}, tmp_path)
    with pytest.raises(ForeignPackageError):
        of({"package": "/elsewhere/writebehind", "put": 1.0}, tmp_path)


def test_a_revision_is_checked_out_beside_and_goes_again(monkeypatch, tmp_path):
    """As it was committed, whatever the working tree has become."""
    monkeypatch.setattr(bench.revisions, "ROOT", tmp_path)

    def git(*words: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b.example")
        return subprocess.run(
            ["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout

    git("init", "--quiet")
    (tmp_path / "file").write_text("committed")
    git("add", "file")
    git("commit", "--quiet", "-m", "one")
    (tmp_path / "file").write_text("changed")

    with checked_out("HEAD") as tree:
        assert "committed" == (tree / "file").read_text()
    assert not tree.exists()
    assert 1 == len(git("worktree", "list").splitlines())


@pytest.mark.parametrize("module", ["writebehind", "web.server"])
def test_python_takes_the_packages_of_a_tree(module, tmp_path):
    """Those of the tree, and not those that are installed or lie where it is started."""
    package, _, name = module.partition(".")
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    (tmp_path / package / f"{name or 'other'}.py").touch()

    done = subprocess.run(
        [sys.executable, "-P", "-c", f"import {module} as it; print(it.__file__)"],
        env=bench.revisions._environment(tmp_path, str(tmp_path)),
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )

    assert Path(done.stdout.strip()).is_relative_to(tmp_path)
