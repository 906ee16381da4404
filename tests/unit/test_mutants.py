"""The list of breaks does not rot."""

from __future__ import annotations

from tests.mutants import source


def test_each_break_is_about_text_that_is_there_once():
    """`listed` raises where one is not; and none leaves its file as it was."""
    for one in source.listed():
        assert one.source != (source.ROOT / one.file).read_text("utf-8")


def test_each_atomic_step_has_breaks():
    """Whoever adds a step says what would be wrong without its conditions."""
    scripts = {f"writebehind/lua/{path.name}" for path in (source.ROOT / "writebehind/lua").glob("*.lua")}
    assert scripts == {one.file for one in source.listed("writebehind/lua/")}


def test_the_tests_of_each_file_are_there():
    assert not {path for one in source.listed() for path in one.tests if not (source.ROOT / path).is_file()}


def test_what_is_explained_is_there():
    """An explanation is about a line of the module."""
    for file, line in source.explained():
        assert line in map(str.strip, (source.ROOT / file).read_text("utf-8").splitlines())
