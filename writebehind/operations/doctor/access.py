"""Access: whether anybody who reaches the API may do everything, and whether tokens can be verified."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

from writebehind.access import published
from writebehind.access.issuer import Tokens, check_installed
from writebehind.access.login import Client
from writebehind.errors import ConfigurationError, TokenKeysError
from writebehind.monitoring.directory import directory_of
from writebehind.operations.doctor.findings import Finding, failure, ok, warning
from writebehind.pipeline import Pipeline
from writebehind.plurals import counted

_CHECK, _TOKENS, _LOGIN = "access", "tokens", "login"
_SEE_TO = "see to WRITEBEHIND_JWT_JWKS, which names the issuer's key set, and WRITEBEHIND_JWT_ALGORITHMS"
_SEE_TO_LOGIN = "see that it is reached from here, and to WRITEBEHIND_JWT_ISSUER: keys and pasted tokens go on"
_MAKE = "make a key: `writebehind keys create NAME --allow admin`"


def check(pipeline: Pipeline) -> Iterator[Finding]:
    """Users of the API, as the settings and the keys say it.

    Raises:
        RedisUnavailableError: nothing is known of keys.
    """
    settings, issuer = pipeline.settings, pipeline.keyring.issuer
    if issuer is not None:
        yield _of_tokens(issuer.tokens)
    if pipeline.login is not None:
        yield _of_login(pipeline.login.client)
    if settings.state_dir is None and settings.metrics_dir is None:
        with suppress(OSError):  # there is no directory for temporary files
            pipeline.keyring.seen.keep_in(directory_of(settings))
    live = sum(one.is_live(time.time() * 1000) for one in pipeline.keyring.all().values())
    if pipeline.keyring.is_on():
        live += bool(settings.root_key)
        found = f"{counted(live, 'live API key')}: nobody may do anything without one"
        found += " or a token" if issuer is not None else ""
        if pipeline.keyring.has_lost:
            yield failure(_CHECK, f"Redis has lost all API keys; {found}", f"{_MAKE}{_open_again(pipeline)}")
            return
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


def _open_again(pipeline: Pipeline) -> str:
    """The end of the advice for who wants no keys any more."""
    files = " ".join(map(str, pipeline.keyring.seen.found()))
    return f"; or, to let everybody in, stop the processes and delete {files} on each host" if files else ""


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


def _of_login(client: Client) -> Finding:
    """The place where people log in, as it is now. Processes that know one go on with it meanwhile."""
    try:
        provider = client.read()
    except TokenKeysError as error:
        return warning(_LOGIN, f"nobody can log in to the console: {error}", _SEE_TO_LOGIN)
    return ok(_LOGIN, f"people log in to the console at {provider.issuer}, as {provider.client_id}")
