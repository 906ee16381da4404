"""Pages for operators that are not the API's, such as Flower's: who may see them."""

from __future__ import annotations

from base64 import b64decode
from http import HTTPStatus

from writebehind.access.keyring import Keyring
from writebehind.access.rights import Right
from writebehind.errors import ConfigurationError, RedisUnavailableError, TokenKeysError

NO_KEYS = (
    "Flower is reached beyond this machine, and there is no API key: let `writebehind keys generate FILE` make "
    "one, and name it in WRITEBEHIND_ROOT_KEY_FILE; or make one by `writebehind keys create NAME --allow admin`; "
    "or give Flower --basic-auth; or set WRITEBEHIND_INSECURE=true to let everybody in"
)


class Operators:
    """Those who may look: with the key of an operator. Safe to share between threads."""

    def __init__(self, keyring: Keyring, *, is_open: bool) -> None:
        """Look for keys there; while there are none, everybody may look where it is open, and nobody elsewhere."""
        self._keyring = keyring
        self._is_open = is_open

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
            raise ConfigurationError(NO_KEYS)

    def refusal(self, authorization: str) -> HTTPStatus | None:
        """The status with which a request with such a header is refused; `None` where it is let through."""
        try:
            if not self._keyring.is_on() and self._is_open:
                return None
            key = self._keyring.find(_token(authorization))
        except (RedisUnavailableError, TokenKeysError):
            return HTTPStatus.SERVICE_UNAVAILABLE
        if key is None:
            return HTTPStatus.UNAUTHORIZED
        return None if key.rights.allow(Right.ADMIN, None) else HTTPStatus.FORBIDDEN


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
