"""Access: whether anybody who reaches the API may do everything, and whether tokens can be verified."""

from __future__ import annotations

import time
from collections.abc import Iterator

from writebehind.access import published
from writebehind.access.issuer import Tokens, check_installed
from writebehind.errors import ConfigurationError, RedisUnavailableError, TokenKeysError
from writebehind.operations.doctor.findings import Finding, failure, ok
from writebehind.pipeline import Pipeline
from writebehind.plurals import counted

_CHECK, _TOKENS = "access", "tokens"
_SEE_TO = "see to WRITEBEHIND_JWT_JWKS, which names the issuer's key set, and WRITEBEHIND_JWT_ALGORITHMS"
_MAKE = "make a key: `writebehind keys create NAME --allow admin`"


def check(pipeline: Pipeline) -> Iterator[Finding]:
    """Users of the API, as the settings and the keys say it."""
    settings, issuer = pipeline.settings, pipeline.keyring.issuer
    if issuer is not None:
        yield _of_tokens(issuer.tokens)
    try:
        live = sum(one.is_live(time.time() * 1000) for one in pipeline.keyring.all().values())
        is_on = pipeline.keyring.is_on()
    except RedisUnavailableError as error:
        yield failure(_CHECK, f"nothing is known of API keys: {error}", "see to Redis first")
        return
    if is_on:
        live += bool(settings.root_key)
        found = f"{counted(live, 'live API key')}: nobody may do anything without one"
        found += " or a token" if issuer is not None else ""
        if live or issuer is None:
            yield ok(_CHECK, found) if live else failure(_CHECK, found, _MAKE)
    elif settings.insecure:
        found = f"WRITEBEHIND_INSECURE: everybody who reaches {settings.host} may do everything"
        yield failure(_CHECK, found, f"{_MAKE}, and set it no more")
    elif settings.is_open:
        yield ok(_CHECK, "there is no API key: everybody on this machine may do everything")
    else:
        found = f"there is no API key, and the API listens on {settings.host}: it does not start"
        yield failure(_CHECK, found, _MAKE)


def _of_tokens(tokens: Tokens) -> Finding:
    """The issuer's keys as they are now. Processes that know some go on with these while none are to be had."""
    try:
        check_installed()
        usable = tokens.verifier(published.read(tokens.keys)).usable
    except (ConfigurationError, TokenKeysError) as error:
        return failure(_TOKENS, f"no key of the issuer of tokens: {error}", _SEE_TO)
    found = f"{counted(usable, 'usable key')} of {tokens.issuer} for {', '.join(tokens.algorithms)}"
    if not usable:
        return failure(_TOKENS, f"{found}: no token is taken", _SEE_TO)
    return ok(_TOKENS, f"{found}: tokens for {tokens.audience} are taken")
