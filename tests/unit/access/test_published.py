"""Key sets of files and of servers that answer, fail and hang."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.tokens import KeyServer, jwk, key_set
from tests.waiting import slowness
from writebehind.access import published
from writebehind.access.published import MOST_BYTES, fault_of, read
from writebehind.errors import TokenKeysError

DATA = key_set(jwk("EdDSA", "one"))


def test_a_set_is_read_from_a_file(tmp_path):
    file = tmp_path / "jwks.json"
    file.write_bytes(DATA)
    assert DATA == read(str(file))


def test_a_set_is_read_from_a_url():
    with KeyServer(DATA) as server:
        assert DATA == read(server.url)


def test_a_server_has_to_have_a_certificate(authority, monkeypatch):
    """One that nobody has signed who is trusted publishes nothing."""
    with KeyServer(DATA, tls=authority.server_context()) as server:
        with pytest.raises(TokenKeysError, match="certificate"):
            read(server.url)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        assert DATA == read(server.url)


@pytest.mark.parametrize(("mode", "said"), [("fail", "answers 500"), ("redirect", "answers 302")])
def test_a_server_that_does_not_answer_with_a_set_is_told(mode, said):
    """A redirect may lead to a host that the settings do not name."""
    with KeyServer(DATA, mode) as server:
        server.location = server.url
        with pytest.raises(TokenKeysError, match=said):
            read(server.url)
        assert 1 == server.asked


def test_what_is_no_answer_of_http_is_quoted():
    """Nobody takes words of the other side for a field of the line."""
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as threads:

        def answer() -> None:
            with listening.accept()[0] as connection:
                connection.recv(65_536)
                connection.sendall(b'SSH-2.0 event=redis_lost "x"\x1b[2K\r\n\r\n')

        answered = threads.submit(answer)
        with pytest.raises(TokenKeysError) as told:
            read(f"http://127.0.0.1:{listening.getsockname()[1]}/")
        answered.result()
    assert str(told.value).endswith(r'''/: no answer of HTTP: "SSH-2.0 event=redis_lost \"x\"\x1b[2K"''')


@pytest.mark.parametrize("mode", ["hang", "trickle"])
def test_a_server_that_takes_its_time_is_given_up(mode, monkeypatch):
    """Also one that sends a byte now and then: 60 s for a set of this size."""
    monkeypatch.setattr(published, "WITHIN_S", 0.3)
    with KeyServer(DATA.ljust(1_200), mode) as server:
        began = time.monotonic()
        with pytest.raises(TokenKeysError, match=r"does not answer within 0\.3 s"):
            read(server.url)
        assert time.monotonic() - began < 10 * slowness()


def test_a_set_that_is_too_large_is_not_read(tmp_path):
    large = b" " * (MOST_BYTES + 1)
    file = tmp_path / "jwks.json"
    file.write_bytes(large)
    with KeyServer(large) as server:
        for source in (str(file), server.url):
            with pytest.raises(TokenKeysError, match="more than 256 KiB"):
                read(source)


@pytest.mark.parametrize("source", ["http://127.0.0.1:1/jwks", "/nowhere/jwks.json", "/"])
def test_what_is_not_there_is_told_with_its_name(source):
    with pytest.raises(TokenKeysError, match=f"^{source}"):
        read(source)


@pytest.mark.parametrize(
    "source", ["https://a.example/jwks?x=1", "http://127.0.0.1:8/", "http://[::1]/", "a/b.json"]
)
def test_sources_that_may_be_named(source):
    assert "" == fault_of(source)


@pytest.mark.parametrize(
    "source",
    [
        "http://a.example/jwks",
        "http://127.0.0.1.a.example/",
        "ftp://a.example/",
        "file:///etc/jwks",
        "https:///jwks",
        "https://u:p@a.example/",
        "https://a.example:x/",
        "https://a.example/\r\nHost: b",
        "https://a.example/ b",
        "https://[::1/",
        "a\nb",
    ],
)
def test_sources_that_may_not(source):
    assert fault_of(source)
