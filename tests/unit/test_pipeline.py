"""The composition root: what a process keeps of what clients name."""

from __future__ import annotations

import gc

import pytest

from writebehind import cli, connect, load_settings
from writebehind.access.keys import Token
from writebehind.collection import Collection
from writebehind.errors import ConfigurationError, UnknownCollectionError
from writebehind.tallies import families


def test_names_from_outside_do_not_fill_the_memory(monkeypatch):
    """However many collections clients name, a process keeps a bounded number, and those of its settings."""
    monkeypatch.setattr("writebehind.parts.MOST_UNLISTED", 10)
    settings = load_settings(allow_unlisted=True, collections={"users": {}})
    with connect(settings) as pipeline:
        users = pipeline.collection("users")
        for n in range(100):
            assert f"outside{n}" == pipeline.collection(f"outside{n}").name
        gc.collect()
        kept = {one.name for one in gc.get_objects() if type(one) is Collection}
        assert {f"outside{n}" for n in range(90, 100)} == {name for name in kept if name.startswith("outside")}
        assert users is pipeline.collection("users")
        assert pipeline.collection("outside99") is pipeline.collection("outside99")


def test_names_from_outside_take_no_collections_place_in_the_counts():
    """However many collections clients have named, what is counted of those of the settings has their names."""
    with connect(load_settings(allow_unlisted=True, collections={"users": {}})) as pipeline:
        for number in range(families.MOST_UNLISTED):
            pipeline.tallies.add(families.WRITES, (f"outside{number}",))
        pipeline.tallies.add(families.WRITES, ("users",))
        assert [1] == pipeline.tallies.read().get((families.WRITES.name, ("users",)))


@pytest.mark.parametrize(("there", "said"), [(True, "the settings file is"), (False, "there is no settings file")])
def test_a_collection_that_is_not_listed(monkeypatch, tmp_path, there, said):
    """Without `allow_unlisted` there are only those of the settings; their file is told beside the message."""
    monkeypatch.delenv("WRITEBEHIND_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    if there:
        (tmp_path / "writebehind.toml").touch()
    settings = load_settings(collections={"users": {}})
    with connect(settings) as pipeline, pytest.raises(UnknownCollectionError) as caught:
        pipeline.collection("others")
    assert [f"{said} {tmp_path / 'writebehind.toml'}"] == caught.value.__notes__
    assert str(tmp_path) not in str(caught.value)


def test_the_command_line_tells_notes(monkeypatch, capsys):
    """The one line of an error has what was noted with it."""

    def fails() -> None:
        error = UnknownCollectionError("not configured")
        error.add_note("no file")
        raise error

    monkeypatch.setattr(cli, "cli", fails)
    with pytest.raises(SystemExit):
        cli.main()
    assert "writebehind: not configured; no file\n" == capsys.readouterr().err


@pytest.mark.parametrize("here", ["localhost", "127.0.0.1", "[::1]"])
def test_the_root_key_leaves_this_machine_for_no_api(here):
    """It may do everything, and whoever is named with `--api` would have it: for another host a key is named."""
    root, reader = (Token.new(digit * 12).text for digit in "01")
    with connect(load_settings(root_key=root)) as pipeline:
        for elsewhere in ("http://api.example:8000", "https://192.0.2.1", "http://127.0.0.1.example.com"):
            with pytest.raises(ConfigurationError, match="give a key"):
                pipeline.observer(api=elsewhere)
            pipeline.observer(api=elsewhere, key=reader).close()
        pipeline.observer(api=f"http://{here}:8000").close()
