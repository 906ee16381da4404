"""Pages for operators that are not the API's, as Flower's and the exporter's: who may see them."""

from __future__ import annotations

from base64 import b64decode
from http import HTTPStatus

from writebehind.access.keyring import Keyring
from writebehind.access.refused import Call, Refusals
from writebehind.access.rights import Right
from writebehind.errors import ConfigurationError, RedisUnavailableError, TokenKeysError

_NO_KEYS = (
    "{page} is reached beyond this machine, and there is no API key: let `writebehind keys generate FILE` make "
    "one, and name it in WRITEBEHIND_ROOT_KEY_FILE; or make one by `writebehind keys create NAME --allow admin`; "
    "or {instead}; or set WRITEBEHIND_INSECURE=true to let everybody in"
)


class Operators:
    """Those who may look: with the key of an operator. Safe to share between threads."""

    def __init__(self, keyring: Keyring, *, is_open: bool, page: str, instead: str) -> None:
        """Look for keys there; while there are none, everybody may look where it is open, and nobody elsewhere.

        Args:
            keyring: knows keys.
            is_open: whether only this machine reaches the page, or everybody may.
            page: a name for what is shown, in the refusal to start.
            instead: something else to do there than to make a key.
        """
        self._keyring = keyring
        self._is_open = is_open
        self._refusals = Refusals()
        self._no_keys = _NO_KEYS.format(page=page, instead=instead)

    def check(self) -> None:
        """See that somebody may look, and not everybody beyond this machine; not where Redis does not answer.

        Raises:
            ConfigurationError: nobody could, as there is no key; or tokens of an issuer cannot be verified here.
        """
        if self._keyring.issuer is not None:
            self._keyring.issuer.check()
        try:
            is_on = self._keyring.is_on()
        except RedisUnavailableError:  # then nobody is let in until it is known
            return
        if not is_on and not self._is_open:
            raise ConfigurationError(self._no_keys)

    def refusal(self, authorization: str, call: Call | None = None) -> HTTPStatus | None:
        """The status with which a request with such a header is refused; `None` where it is let through.

        The audit log has it, if it is told of the request.
        """
        try:
            if not self._keyring.is_on() and self._is_open:
                return None
            key = self._keyring.find(_token(authorization))
        except (RedisUnavailableError, TokenKeysError):
            return HTTPStatus.SERVICE_UNAVAILABLE
        if key is not None and key.rights.allow(Right.ADMIN, None):
            return None
        status = HTTPStatus.UNAUTHORIZED if key is None else HTTPStatus.FORBIDDEN
        if call is not None:
            why = "a key without the right to admin" if key else "a wrong key" if authorization else "no key"
            self._refusals.note(call, why, key.id if key else None, status)
        return status

    def refused_by_gate(self, authorization: str, call: Call, reason: str, status: HTTPStatus) -> None:
        """Have in the audit log that the gate has refused a request, and whose key it has, if that is known."""
        key = self._keyring.recognise(_token(authorization)) if authorization else None
        self._refusals.note(call, reason, key.id if key else None, status)


def _token(authorization: str) -> str:
    """The key in a header: a bearer's, or the password beside a name; '' where there is none."""
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return b64decode(rest, validate=True).decode().partition(":")[2]
    except ValueError:  # it is no base64, or what it says no UTF-8
        return ""
