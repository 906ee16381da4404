"""The exporter's figures are for operators, with the keys of the API; where there are none, for this machine."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from types import SimpleNamespace

import httpx
import pytest
import trustme

from tests.integration.conftest import environment
from web.exporter import Exporter, operators_of
from writebehind.access import keyring as keyrings
from writebehind.access.gate import Gate
from writebehind.access.keys import Token, new_id
from writebehind.access.operators import Operators
from writebehind.local.embedded import free_port
from writebehind.local.supervisor import Group, bound_to_parent, end

EVERYWHERE = "0.0.0.0"  # noqa: S104 - nothing listens there
STRICT = "strict-transport-security"
COMMAND = [sys.executable, "-P", "-m", "writebehind", "run", "exporter"]


def asked(exporter: Exporter, path: str, token: str = "") -> SimpleNamespace:
    """The answer to a request."""
    told = {}

    def start(status: str, headers: list[tuple[str, str]]) -> None:
        told.update(status=int(status.split(maxsplit=1)[0]), headers=dict(headers))

    environ = {"REQUEST_METHOD": "GET", "HTTP_HOST": "localhost", "PATH_INFO": path}
    environ |= {"HTTP_AUTHORIZATION": f"Bearer {token}"} if token else {}
    body = b"".join(exporter(environ, start))
    return SimpleNamespace(body=body, **told)


def test_its_figures_are_for_operators(office, pipeline, monkeypatch):
    """As soon as there is a key; probes need none."""
    monkeypatch.setattr(keyrings, "FRESH_S", 0)
    page = SimpleNamespace(render=lambda _: (b"figures", "text/plain"))
    operators = Operators(pipeline.keyring, is_open=True, page="the exporter", instead="…")
    exporter = Exporter(page, Gate("127.0.0.1", []), operators)

    assert (200, b"figures") == ((free := asked(exporter, "/metrics")).status, free.body)
    admin, reader = (office.create(one, [right]).token.text for one, right in (("a", "admin"), ("b", "*:read")))
    assert b"figures" == asked(exporter, "/metrics", admin).body
    assert STRICT not in free.headers
    assert 403 == asked(exporter, "/metrics", reader).status
    refused = asked(exporter, "/metrics")
    assert (401, True) == (refused.status, refused.headers["WWW-Authenticate"].startswith("Bearer "))
    assert b"figures" not in refused.body
    assert [200, 404] == [asked(exporter, path).status for path in ("/healthz", "/others")]
    assert b"figures" == asked(Exporter(page, Gate("127.0.0.1", []), None), "/metrics").body


def test_it_does_not_start_for_everybody_beyond_this_machine(settings, pipeline):
    """It ends, and says in a line what to do."""
    given = environment(settings) | {"WRITEBEHIND_HOST": EVERYWHERE, "WRITEBEHIND_EXPORTER_PORT": str(free_port())}
    done = subprocess.run(COMMAND, env=os.environ | given, capture_output=True, text=True, timeout=60, check=False)
    assert (1, 1) == (done.returncode, len(done.stderr.splitlines()))
    assert done.stderr.startswith(
        "writebehind: the exporter is reached beyond this machine, and there is no API key"
    )


@pytest.mark.parametrize("name", ["METRICS_OPEN", "INSECURE"])
def test_it_shows_them_to_all_where_the_settings_say_so(pipeline, settings, name, monkeypatch):
    """Also beyond this machine: they are asked for by name."""
    more = {"host": EVERYWHERE, name.lower(): True}
    ours = SimpleNamespace(settings=settings.model_copy(update=more), keyring=pipeline.keyring)
    found = operators_of(ours)
    assert found is None or found.refusal("") is None


def test_it_is_served_by_tls_to_an_operator_with_a_certificate(settings, pipeline, tmp_path):
    """By the settings of the API's own listener: nobody else learns anything."""
    authority, root = trustme.CA(), Token.new(new_id()).text
    issued = authority.issue_cert("127.0.0.1")
    for name in ("cert", "key", "client_ca"):
        (tmp_path / name).touch(0o600)
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert")
    issued.private_key_pem.write_to_path(tmp_path / "key")
    authority.cert_pem.write_to_path(tmp_path / "client_ca")
    port = free_port()
    given = environment(settings) | {
        f"WRITEBEHIND_TLS_{name.upper()}": str(tmp_path / name) for name in ("cert", "key", "client_ca")
    }
    given |= {"WRITEBEHIND_EXPORTER_PORT": str(port), "WRITEBEHIND_ROOT_KEY": root}
    leader = subprocess.Popen(
        bound_to_parent(COMMAND), env=os.environ | given, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    url = f"https://127.0.0.1:{port}/metrics"
    context = ssl.create_default_context()
    authority.configure_trust(context)
    try:
        assert any("event=started" in line for line in leader.stderr)
        with pytest.raises(httpx.TransportError):
            httpx.get(url, verify=context, trust_env=False)
        authority.issue_cert("prometheus").configure_cert(context)
        with httpx.Client(verify=context, trust_env=False, timeout=30) as client:
            refused = client.get(url)
            assert (401, "max-age=31536000") == (refused.status_code, refused.headers[STRICT])
            answer = client.get(url, headers={"Authorization": f"Bearer {root}"})
            assert (200, True) == (answer.status_code, "writebehind_redis_up 1.0" in answer.text)
            assert "max-age=31536000" == answer.headers[STRICT]
    finally:
        end([Group(leader)])
        leader.stderr.close()
