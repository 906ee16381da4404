"""The API by TLS, as `writebehind run web` serves it: with a certificate, and for clients that have one."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import trustme

from tests.integration.conftest import environment
from writebehind.errors import ConfigurationError
from writebehind.local.embedded import free_port
from writebehind.local.supervisor import Group, bound_to_parent, end
from writebehind.settings.installation import load_settings


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority, tmp_path_factory) -> dict[str, str]:
    """The settings for a certificate of loopback, and for clients with one of the same authority."""
    directory = tmp_path_factory.mktemp("tls")
    issued = authority.issue_cert("127.0.0.1")
    for name in ("cert", "key", "client_ca"):
        (directory / name).touch(0o600)
    issued.cert_chain_pems[0].write_to_path(directory / "cert")
    issued.private_key_pem.write_to_path(directory / "key")
    authority.cert_pem.write_to_path(directory / "client_ca")
    return {f"WRITEBEHIND_TLS_{one.upper()}": str(directory / one) for one in ("cert", "key", "client_ca")}


@contextmanager
def served(settings, **env: str) -> Iterator[str]:
    """The API as a process; its address, once it serves."""
    port = free_port()
    command = bound_to_parent([sys.executable, "-P", "-m", "writebehind", "run", "web"])
    variables = {**os.environ, **environment(settings), **env, "WRITEBEHIND_PORT": str(port)}
    leader = subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        line = next(one for one in leader.stderr if "event=started" in one)
        assert f"serves 127.0.0.1:{port}" in line
        yield f"https://127.0.0.1:{port}/healthz"
    finally:
        end([Group(leader)])
        leader.stderr.close()


def test_only_clients_with_a_certificate_are_served(settings, pipeline, authority, files):
    """By TLS of 1.2 and newer, and browsers are told to stay with it; the others are refused, as is plain HTTP."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with served(settings, **files) as url:
        with pytest.raises(httpx.TransportError):
            httpx.get(url, verify=context, trust_env=False)
        with pytest.raises(httpx.TransportError):
            httpx.get(url.replace("https", "http"), trust_env=False)
        strangers = trustme.CA().issue_cert("client")
        with pytest.raises(httpx.TransportError):
            httpx.get(url, verify=with_certificate(authority, strangers), trust_env=False)
        answer = httpx.get(
            url, verify=with_certificate(authority, authority.issue_cert("client")), trust_env=False
        )
    assert (200, "max-age=31536000") == (answer.status_code, answer.headers["Strict-Transport-Security"])


def with_certificate(authority: trustme.CA, issued: trustme.LeafCert) -> ssl.SSLContext:
    """A client's context, which trusts the authority and has this certificate."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    issued.configure_cert(context)
    return context


def test_settings_that_cannot_be(files):
    """A certificate has a key, and clients are asked for one by TLS only."""
    for names in (("CERT",), ("KEY",), ("CLIENT_CA",)):
        with pytest.raises(ConfigurationError, match="tls_cert and tls_key"):
            load_settings(**{f"tls_{one.lower()}": files[f"WRITEBEHIND_TLS_{one}"] for one in names})


@pytest.mark.parametrize("name", ["CERT", "KEY", "CLIENT_CA"])
def test_a_file_that_is_none_is_named(settings, pipeline, files, tmp_path, name):
    """The server does not start, and says so in a line."""
    (tmp_path / "none").write_text("no certificate")
    wrong = files | {f"WRITEBEHIND_TLS_{name}": str(tmp_path / "none")}
    ended = subprocess.run(
        [sys.executable, "-m", "writebehind", "run", "web"],
        env={**os.environ, **environment(settings), **wrong, "WRITEBEHIND_PORT": str(free_port())},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert 1 == ended.returncode
    assert ended.stderr.startswith(f"writebehind: WRITEBEHIND_TLS_{'CERT' if name == 'KEY' else name}")
    assert 1 == len(ended.stderr.splitlines())
