"""Secrets out of files, as orchestrators mount them."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import pytest

from web.tls import context
from writebehind import Settings, load_settings
from writebehind.access.keys import Token, new_id
from writebehind.access.published import read
from writebehind.errors import ConfigurationError, TokenKeysError
from writebehind.local.procfile import read_procfile
from writebehind.logs.audit import begin_audit, note
from writebehind.planning.constants import load_constants
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


@pytest.mark.parametrize("kind", ["pipe", "directory", "device", "zero byte"])
def test_what_is_no_regular_file_is_named_at_once(monkeypatch, tmp_path, kind):
    """Whatever setting names it: nobody waits for a pipe, and a device has no end."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    path = {"pipe": str(pipe), "directory": str(tmp_path), "device": "/dev/zero", "zero byte": "a\0b"}[kind]
    if kind != "zero byte":  # the environment can have none
        for variable in (*OF_SECRETS, "WRITEBEHIND_CONFIG"):
            monkeypatch.setenv(variable, path)
            with pytest.raises(ConfigurationError, match=f"^{variable}: .*{path}"):
                load_settings()
            monkeypatch.delenv(variable)
    mongodb, redis = "mongodb://host/?tls=true&tlsCAFile=", "rediss://host/0?ssl_ca_certs="
    for setting, url in {"mongodb_url": mongodb, "redis_url": redis}.items():
        with pytest.raises(ConfigurationError, match=f"{setting.upper()}: the file of its option"):
            load_settings(**{setting: url + quote(path, safe="/")})
    with pytest.raises(ConfigurationError, match="WRITEBEHIND_TLS_CERT: "):
        context(Settings.model_construct(tls_cert=Path(path), tls_key=Path(path), tls_client_ca=None))
    with pytest.raises(ConfigurationError, match="schema_file "):
        load_settings(collections={"users": {"schema_file": path}})
    with pytest.raises(TokenKeysError, match="cannot be read: "):
        read(path)
    with pytest.raises(ConfigurationError, match=r"^constants cannot be read: "):
        load_constants(Path(path))
    with pytest.raises(ConfigurationError, match=r"^Procfile: "):
        read_procfile(Path(path))


def test_a_pipe_that_nobody_reads_is_no_audit_log(tmp_path):
    """It would be waited for; one that is read, as by a collector of logs, is one."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ConfigurationError, match=f"^audit_log: {pipe} cannot be written: nobody reads"):
        begin_audit(pipe, "web")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        begin_audit(pipe, "web")
        note("operator_call", "one", {})
        assert b'"message": "one"' in os.read(reader, 1000)
    finally:
        begin_audit(None, "web")
        os.close(reader)


def test_a_pipe_in_the_place_of_the_settings_file_is_named(monkeypatch, tmp_path):
    """It would be left out, and all settings with it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WRITEBEHIND_CONFIG")
    os.mkfifo("writebehind.toml")
    with pytest.raises(ConfigurationError, match=r"^writebehind\.toml: it is a pipe"):
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
