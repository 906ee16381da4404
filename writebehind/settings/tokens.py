"""Tokens that are taken, as the settings say it."""

from __future__ import annotations

from writebehind.access.issuer import Issuer, Tokens
from writebehind.access.login import Client, Login
from writebehind.settings.installation import Settings


def issuer_of(settings: Settings) -> Issuer | None:
    """The issuer of tokens that the settings name, if they do."""
    if not settings.jwt_issuer:
        return None
    return Issuer(
        Tokens(
            settings.jwt_issuer,
            settings.jwt_audience,
            settings.jwt_jwks,
            settings.jwt_algorithms,
            settings.jwt_scope_claim,
        )
    )


def login_of(settings: Settings) -> Login | None:
    """The login of people at this issuer, where it knows the console as a client."""
    if not settings.oidc_client_id:
        return None
    return Login(Client(settings.jwt_issuer, settings.oidc_client_id, settings.oidc_scope, settings.jwt_audience))
