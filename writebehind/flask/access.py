"""Access to the routes: whose key or token a request has, and what that allows."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from hashlib import blake2b
from typing import Any, Final

from flask import Response, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Forbidden, HTTPException, NotFound, Unauthorized

from writebehind.access.keyring import Keyring
from writebehind.access.keys import ApiKey
from writebehind.access.rights import Right, named
from writebehind.access.subjects import Holder
from writebehind.errors import ConfigurationError, NotGrantedError, RedisUnavailableError
from writebehind.flask.audit import Refusals
from writebehind.flask.problems import NOTED, respond, this_request
from writebehind.outage_log import OutageLog

log = logging.getLogger(__name__)
_refusals = OutageLog(log, "access refused", "accesses refused")
_audited = Refusals()
#: So many characters of a request are logged.
_MOST_SHOWN = 300

NO_KEYS = (
    "WRITEBEHIND_HOST is reached beyond this machine, and there is no API key: let `writebehind keys generate "
    "FILE` make one, and name it in WRITEBEHIND_ROOT_KEY_FILE; or make one by `writebehind keys create NAME "
    "--allow admin` while Redis runs (that of `up`: `writebehind up --servers-only`); or name an issuer of tokens "
    "in WRITEBEHIND_JWT_ISSUER; or set WRITEBEHIND_INSECURE=true to let everybody in"
)
#: Where the key of a request stands in its environment, once it is found.
KEY = "writebehind.key"
#: That a request is refused, and the audit log has it.
_REFUSED = "writebehind.refused"
_REALM = "writebehind API"
_SCHEME = "bearer "
#: Of the digest of a subject's name.
_OWNER_BYTES: Final = 16

Environ = dict[str, Any]


class Access:
    """Decides by the keys of an installation."""

    def __init__(self, keyring: Keyring, *, is_open: bool = True) -> None:
        """Look for keys there; while there are none, all is allowed where it is open, and nothing elsewhere."""
        self._keyring = keyring
        self._is_open = is_open

    def admit(self, right: Right, collection: str | None = None, environ: Environ | None = None) -> None:
        """Let a request through that may do this.

        Args:
            right: to do it.
            collection: whose documents it is about, unless it is to operate.
            environ: of the request; by default of the one that is answered.

        Raises:
            Unauthorized: it has no key or token, or one that is not live.
            Forbidden: its key or token does not allow it.
            RedisUnavailableError: it is not known yet whether there are keys, and Redis does not answer.
            TokenKeysError: it has a token, and the keys of its issuer are not known yet.
        """
        if not self._keyring.is_on() and self._is_open:
            return
        key = self._key_of(request.environ if environ is None else environ)
        if not key.rights.allow(right, collection):
            wanted = named(right, collection)
            _tell_refused(Forbidden, f"a key without the right to {right}", key)
            raise Forbidden(f"{key.called} does not grant {wanted}")

    def grants(self, right: Right, collection: str, environ: Environ) -> bool:
        """Whether a request surely may do this. Of one that may not nothing is told: `admit` does that.

        Raises:
            RedisUnavailableError: as `admit`.
            TokenKeysError: as `admit`.
        """
        if not self._keyring.is_on() and self._is_open:
            return True
        token = token_of(environ.get("HTTP_AUTHORIZATION", ""))
        key = None if token is None else self._keyring.find(token, told=False)
        if key is None or not key.rights.allow(right, collection):
            return False
        _know(environ, key)
        return True

    def is_known(self, environ: Environ) -> bool:
        """Whether `grants` waits for nobody, and takes no time, which an event loop has not."""
        return self._keyring.is_known(token_of(environ.get("HTTP_AUTHORIZATION", "")))

    def check(self) -> None:
        """See that not everybody beyond this machine may do everything; not where Redis does not answer yet.

        Raises:
            ConfigurationError: nobody could do anything, as there is no key, and it is not open; or tokens of an
                issuer are to be taken, and cannot be verified here.
        """
        if self._keyring.issuer is not None:
            self._keyring.issuer.check()
        with suppress(RedisUnavailableError):  # then nobody is let in until it is known
            # In any case: from now on they are known, also while Redis is away.
            if not self._keyring.is_on() and not self._is_open:
                raise ConfigurationError(NO_KEYS)

    def operate(self) -> None:
        """Let a request through that may operate the service. Raises as `admit`."""
        self.admit(Right.ADMIN)

    def holder(self) -> Holder | None:
        """The key of a request for which any one is enough that is live; `None` where there are no keys.

        Raises:
            Unauthorized: it has none.
            RedisUnavailableError: as `admit`.
            TokenKeysError: as `admit`.
        """
        is_open = self._is_open and not self._keyring.is_on()
        return None if is_open else self._key_of(request.environ)

    def _key_of(self, environ: Environ) -> Holder:
        given: str = environ.get("HTTP_AUTHORIZATION", "")
        if not given:
            _tell_refused(Unauthorized, "no key")
            raise Unauthorized("send a key: Authorization: Bearer wb_…", www_authenticate=_challenge())
        token = token_of(given)
        key = None if token is None else self._keyring.find(token)
        if key is None:
            ended = None if token is None else self._keyring.ended(token)
            _tell_refused(Unauthorized, _why_not(ended), ended)
            raise Unauthorized(
                "there is no such key, or it is revoked or has expired; or the token is not valid here",
                www_authenticate=_challenge(error="invalid_token"),
            )
        _know(environ, key)
        return key


def token_of(authorization: str) -> str | None:
    """The token in a header `Authorization`; `None` where it has none of a bearer."""
    is_bearer = authorization[: len(_SCHEME)].lower() == _SCHEME
    return authorization[len(_SCHEME) :].strip() if is_bearer else None


def key_of_request() -> Holder | None:
    """The key or subject that this request was let through with; `None` where none was looked for."""
    found: Holder | None = request.environ.get(KEY)
    return found


def owner_of(environ: Mapping[str, Any]) -> str:
    """The name by which an idempotency key is known to be that of whoever sent the request; '' where anybody may.

    A key that has a new secret is the same; a subject may have any name, of which this is a digest.
    """
    holder: Holder | None = environ.get(KEY)
    if holder is None or isinstance(holder, ApiKey):
        return holder.id if holder else ""
    return blake2b(holder.id.encode(errors="surrogatepass"), digest_size=_OWNER_BYTES).hexdigest()


def hide_from_writers(response: Response) -> Response:
    """Let a 404 tell nobody whether a document exists who may not read it: it is 403 then."""
    if response.status_code != NotFound.code:
        return response
    hidden = hidden_from((request.view_args or {}).get("collection"))
    return response if hidden is None else respond(hidden)


def hidden_from(collection: str | None) -> NotGrantedError | None:
    """The answer in the place of what only readers of a collection may know; `None` to one of them.

    That is whether there is a document to be changed, and the ETag of what a change has made of it: a hash, by
    which a document that has few possible states can be guessed.
    """
    key = key_of_request()
    if key is None or collection is None or key.rights.allow(Right.READ, collection):
        return None
    return NotGrantedError(f"{key.called} does not grant {named(Right.READ, collection)}")


def hide_tag(response: Response) -> Response:
    """Leave the ETag out of an answer to whoever may change a document and not read it."""
    if "ETag" in response.headers and hidden_from((request.view_args or {}).get("collection")):
        del response.headers["ETag"]
    return response


def _know(environ: Environ, key: Holder) -> None:
    """Have a request known by its key."""
    environ[KEY] = key
    if (noted := environ.get(NOTED)) is not None:
        noted["key"] = key.id


def note_gate_refusal(keyring: Keyring, error: HTTPException) -> None:
    """Have in the audit log that the gate has refused this request, and whose key it has, if that is known."""
    token = token_of(request.headers.get("Authorization", ""))
    key = None if token is None else keyring.recognise(token)
    _audited.note(error.description or "", key.id if key else None, error.code or 0)


def _why_not(ended: ApiKey | None) -> str:
    """The reason why a token is refused: of a key that has ended, or of none that there is."""
    if ended is None:
        return "a wrong key"
    if ended.is_live(time.time() * 1000):
        return "a secret that was replaced"
    return "a key that has expired" if ended.revoked_ms is None else "a key that is revoked"


def _challenge(**more: str) -> WWWAuthenticate:
    """The challenge with each value as a quoted string, which RFC 9110 (11.5) and RFC 6750 (3) want of some."""
    values = {"realm": _REALM, **more}
    return WWWAuthenticate("bearer", token=", ".join(f'{name}="{one}"' for name, one in values.items()))


def was_refused() -> bool:
    """Whether this request is refused for its key, or for having none."""
    return _REFUSED in request.environ


def _tell_refused(by: type[HTTPException], why: str, key: Holder | None = None) -> None:
    """Log what is refused: the first time, and then how often, as anybody may send anything."""
    key_id = key.id if key else None
    request.environ[_REFUSED] = True
    _audited.note(why, key_id, by.code or 0)
    kind = f"{why}, {key_id}" if key_id else why
    _refusals.note(kind, f"{kind}: {this_request()[:_MOST_SHOWN]}", event="access_refused", key=key_id, reason=why)
