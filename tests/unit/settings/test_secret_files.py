"""Secrets out of files, as orchestrators mount them."""

from __future__ import annotations

import pytest

from writebehind import load_settings
from writebehind.access.keys import Token, new_id
from writebehind.errors import ConfigurationError
from writebehind.settings.secret_files import MOST_BYTES, OF_SECRETS

GIVEN = {
    "redis_url": "redis://:pwSecr1@redis:6379/3",
    "mongodb_url": "mongodb://u:pwSecr1@mongo:27017/",
    "broker_url": "amqp://u:pwSecr1@rabbit//",
    "root_key": Token.new(new_id()).text,
}


@pytest.mark.parametrize("variable", OF_SECRETS)
def test_a_secret_may_be_in_a_file(monkeypatch, tmp_path, variable):
    """The line's end is none of it, and nothing shows it."""
    name = OF_SECRETS[variable]
    file = tmp_path / "secret"
    file.write_text(f"{GIVEN[name]}\n", "utf-8")
    monkeypatch.setenv(variable, str(file))
    settings = load_settings()
    assert getattr(settings, name) == GIVEN[name]
    assert GIVEN[name] not in repr(settings)


@pytest.mark.parametrize("variable", OF_SECRETS)
@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe", b"x" * (MOST_BYTES + 1)])
def test_a_file_that_has_no_secret_is_named(monkeypatch, tmp_path, variable, content):
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv(variable, str(file))
    with pytest.raises(ConfigurationError, match=f"^{variable}: .*{file.name}"):
        load_settings()


@pytest.mark.parametrize("variable", OF_SECRETS)
def test_a_secret_is_given_once(monkeypatch, tmp_path, variable):
    file = tmp_path / "secret"
    file.write_text(GIVEN[OF_SECRETS[variable]], "utf-8")
    monkeypatch.setenv(variable, str(file))
    monkeypatch.setenv(variable.removesuffix("_FILE"), GIVEN[OF_SECRETS[variable]])
    with pytest.raises(ConfigurationError, match="both set"):
        load_settings()


def test_what_is_no_key_is_no_root_key():
    with pytest.raises(ConfigurationError, match="keys generate"):
        load_settings(root_key="hunter2")
