"""The list of breaks does not rot, and a mutant meets those tests first that touch it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FunctionType

import fakeredis
import pytest

from tests.commits import commit_one
from tests.mutants import running, source
from tests.mutants.baseline import Baseline, Known, Noting
from tests.mutants.running import Ended, Fate, judged, look, try_out
from tests.mutants.source import Mutant
from tests.mutants.swapping import Swapping, can_be_swapped, swapped
from writebehind.documents.entry import Entry
from writebehind.mongodb.sink import Sink
from writebehind.redis.commits import CommitRequest
from writebehind.redis.scripts import script
from writebehind.redis.store import Store
from writebehind.redis.wire import Wire

MODULE = """\
MOST = 1


def cut(items):
    if (
        len(items)
        > MOST
    ):
        return items[
            :MOST
        ]
    return items
"""


def test_each_break_is_about_text_that_is_there_once():
    """`listed` raises where one is not; and none leaves its file as it was."""
    for one in source.listed():
        assert one.source != (source.ROOT / one.file).read_text("utf-8")


def test_each_atomic_step_has_breaks():
    """Whoever adds a step, or what steps include, says what would be wrong without its conditions."""
    folder = "writebehind/redis/lua/"
    scripts = {path.relative_to(source.ROOT).as_posix() for path in (source.ROOT / folder).rglob("*.lua")}
    assert scripts == {one.file for one in source.listed(folder)}


def test_the_tests_of_each_file_are_there():
    assert not {path for one in source.listed() for path in one.tests if not (source.ROOT / path).is_file()}


def test_what_is_explained_is_there():
    """An explanation is about a line of the module."""
    for file, line in source.explained():
        assert line in map(str.strip, (source.ROOT / file).read_text("utf-8").splitlines())


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [("MOST = 1", "MOST = 2", [1]), ("> MOST", ">= MOST", [5, 6, 7, 8]), (":MOST", "::MOST", [9, 10, 11])],
)
def test_a_mistake_stands_in_a_statement(old, new, lines):
    """Tests run its first line, and not always the one that differs. The body of a statement is left out."""
    assert lines == list(source.statement(MODULE, MODULE.replace(old, new)))


def known(name: str, took_s: float, *touched: str, passed: bool = True) -> Known:
    return Known(f"tests/test_{name}", passed, took_s, frozenset(touched))


@pytest.mark.parametrize(
    ("lines", "first", "then"),
    [
        ((), ["tests/test_a.py::fast", "tests/test_a.py::slow"], ["tests/test_b.py::other"]),
        ((5, 6), ["tests/test_a.py::slow"], ["tests/test_a.py::fast", "tests/test_b.py::other"]),
        ((9,), [], ["tests/test_a.py::fast", "tests/test_b.py::other", "tests/test_a.py::slow"]),
    ],
)
def test_tests_that_touch_a_mistake_come_first(lines, first, then):
    """The fastest of them first; then the others of the mutant's files, and none that fails without it."""
    baseline = Baseline(
        [
            known("a.py::slow", 3.0, "it", "it:6"),
            known("a.py::fast", 1.0, "it", "it:4"),
            known("b.py::other", 2.0, "else:5"),
            known("a.py::red", 0.1, "it", "it:5", passed=False),
            known("c.py::of_another_file", 0.1, "it", "it:5"),
        ]
    )
    mutant = Mutant("it", "", "", "", ("tests/test_a.py", "tests/test_b.py"), lines=lines)
    assert (first, then) == baseline.choice(mutant)
    assert ["tests/test_a.py::red"] == baseline.failed()


def test_steps_are_touched_whichever_way_they_are_sent(tmp_path, monkeypatch):
    """Alone, as text, or together with what may be refused by itself; with a step, functions that it includes."""
    monkeypatch.setattr(Wire, "exchange", Wire.exchange)  # or the others would go on being noted
    noting = Noting([], source.ROOT, tmp_path / "out")
    noting._note_steps()
    fake = fakeredis.FakeServer(server_type="valkey", version=(7, 2))
    store = Store(
        Wire(fakeredis.FakeRedis(server=fake, protocol=2).connection_pool),
        database="shop",
        partitions=1,
        max_pending=1,
        tombstone_ttl_ms=1,
    )
    commit_one(store, CommitRequest("users/s:ada", Entry.loaded(b"ada", 0).payload, 0))
    store.drop_token("token", life_ms=1)
    store.aliases.claim([("users/s:ada", 1, ["name=ada"])])

    folder = "writebehind/redis/lua/"
    wanted = {
        folder + one for one in ("commit.lua", "include/issue_version.lua", "drop_token.lua", "claim_value.lua")
    }
    assert wanted <= noting._touched


@pytest.mark.parametrize(
    "file",
    [
        "writebehind/redis/lua/commit.lua",
        "writebehind/redis/lua/include/issue_version.lua",
        "writebehind/mongodb/sink.py",
    ],
)
def test_a_mistake_is_swapped_in_for_a_while(file):
    """Where the run looks for steps and functions is where they are."""
    mutant = source.listed(file)[0]
    assert can_be_swapped(mutant)

    def present() -> object:
        return (
            script("commit").source
            if file.endswith(".lua")
            else [one.__code__ for one in vars(Sink).values() if isinstance(one, FunctionType)]
        )

    before = present()
    with swapped(mutant):
        assert before != present()
    assert before == present()


BATCHES, TESTS = "writebehind/flushing/batch_size.py", "tests/unit/test_batch_size.py"


@pytest.fixture(scope="module")
def baseline(tmp_path_factory) -> Baseline:
    """The tests of a small file, as they are without a mutant."""
    return Baseline(look(TESTS, [BATCHES], tmp_path_factory.mktemp("look")))


def mutant_of_batches(old: str, new: str) -> Mutant:
    text = (source.ROOT / BATCHES).read_text("utf-8")
    mutated = text.replace(old, new)
    assert mutated != text
    return Mutant(BATCHES, mutated, old, new, (TESTS,), lines=source.statement(text, mutated))


NO_MISTAKE = mutant_of_batches("One process's batch size.", "The batch size of a process.")
MISTAKE = mutant_of_batches("max(START, least)", "min(START, least)")


@pytest.mark.parametrize(("mutant", "fate"), [(NO_MISTAKE, Fate.SURVIVED), (MISTAKE, Fate.KILLED)])
def test_a_copy_of_the_package_is_what_is_tested(mutant, fate, baseline, tmp_path):
    """A mistake in it is noticed, by a test that touches its line; a change that is no mistake survives."""
    touching, _ = baseline.choice(mutant)
    trial = try_out(mutant, baseline, tmp_path, swapped=False)
    assert (fate, fate is Fate.KILLED) == (trial.fate, any(name in trial.words for name in touching))


class Elsewhere:
    """A plugin for pytest: the package is one that was installed."""

    def pytest_collection_finish(self) -> None:
        sys.modules["writebehind"].__file__ = "/usr/lib/writebehind/__init__.py"


def test_a_run_without_the_mutant_says_nothing(tmp_path):
    """That another package was tested is a failure of the run, and not a test that fails."""
    running._copy(tmp_path)
    process = running._started(tmp_path, [TESTS], Elsewhere())
    process.join()
    assert running._BROKEN == process.exitcode


SURVIVED, FAILED, NOT_COLLECTED = (
    Ended(Fate.SURVIVED, "c", ""),
    Ended(Fate.KILLED, "b", ""),
    Ended(Fate.KILLED, "", ""),
)


@pytest.mark.parametrize(
    ("ends", "fate"),
    [
        ([SURVIVED], Fate.SURVIVED),
        ([FAILED, SURVIVED, FAILED], Fate.KILLED),
        ([Ended(Fate.TIMEOUT, "b", ""), SURVIVED, FAILED], Fate.TIMEOUT),
        ([NOT_COLLECTED, SURVIVED, NOT_COLLECTED], Fate.KILLED),
        ([FAILED, FAILED, SURVIVED], Fate.SURVIVED),
        ([FAILED, SURVIVED, SURVIVED, SURVIVED], Fate.SURVIVED),
        ([FAILED, FAILED, Ended(Fate.KILLED, "c", ""), FAILED], Fate.SURVIVED),
    ],
)
def test_only_what_a_mistake_alone_makes_fail_counts(ends, fate):
    """A test that fails without it too, or once only, is passed over, and those behind it are run."""
    ends, asked = iter(ends), []
    assert (
        fate
        is judged(["a", "b", "c"], lambda names, mutated: (asked.append((names, mutated)), next(ends))[1]).fate
    )
    assert not [*ends]


@pytest.mark.parametrize(
    "plugin", [Noting([], Path(), Path()), Swapping([], lambda _: None)], ids=["noting", "swapping"]
)
def test_a_plugin_is_one_of_a_set(plugin):
    """Pytest keeps plugins in sets as soon as tests of two folders run together, each with a `conftest.py`."""
    assert [plugin] == list({plugin})
