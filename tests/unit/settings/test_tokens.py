"""Settings about tokens of an issuer."""

from __future__ import annotations

import pytest

from writebehind import load_settings
from writebehind.errors import ConfigurationError

GIVEN = {"jwt_issuer": "https://a.example/", "jwt_audience": "documents", "jwt_jwks": "https://a.example/jwks"}


@pytest.mark.parametrize("name", GIVEN)
def test_issuer_audience_and_keys_are_set_together(name):
    """Without an audience, tokens for others would be taken."""
    with pytest.raises(
        ConfigurationError, match=r"^jwt_issuer, jwt_audience and jwt_jwks have to be set together"
    ):
        load_settings(**GIVEN | {name: ""})


@pytest.mark.parametrize("algorithm", ["none", "HS256", "HS512", "ES256K", ""])
def test_algorithms_that_prove_nothing_are_refused(monkeypatch, algorithm):
    monkeypatch.setenv("WRITEBEHIND_JWT_ALGORITHMS", f"RS256,{algorithm}" if algorithm else ",")
    with pytest.raises(ConfigurationError, match=r"^jwt_algorithms"):
        load_settings(**GIVEN)


def test_algorithms_may_be_listed_in_the_environment(monkeypatch):
    monkeypatch.setenv("WRITEBEHIND_JWT_ALGORITHMS", "ES256, PS256")
    assert ["ES256", "PS256"] == load_settings(**GIVEN).jwt_algorithms


@pytest.mark.parametrize(
    ("issuer", "fault"),
    [
        ("login.example.com", "is no URL$"),
        ("/etc/passwd", "is no URL$"),
        ("ftp://login.example.com/", "is no URL with https$"),
        ("http://login.example.com/", "has to be https"),
        ("https://ada:secret@login.example.com/", "may have no user and no password$"),
    ],
)
def test_people_log_in_at_an_issuer_that_is_a_url(issuer, fault):
    """Nothing else is read as a file; a name alone does for tokens of which the keys are known."""
    told = GIVEN | {"jwt_issuer": issuer}
    assert issuer == load_settings(**told).jwt_issuer
    with pytest.raises(ConfigurationError, match=rf"^oidc_client_id .* jwt_issuer, which {fault}"):
        load_settings(**told, oidc_client_id="console")
    for right in (GIVEN["jwt_issuer"], "http://127.0.0.1:8080/"):
        load_settings(**told | {"jwt_issuer": right}, oidc_client_id="console")


def test_keys_that_anybody_on_the_way_can_change_are_refused():
    with pytest.raises(ConfigurationError, match=r"^jwt_jwks has to be https"):
        load_settings(**GIVEN | {"jwt_jwks": "http://a.example/jwks"})
