"""Subjects: whom the tokens of an issuer speak of. They may do what their tokens say, as holders of keys may."""

from __future__ import annotations

from dataclasses import dataclass

from writebehind.access.keys import ApiKey
from writebehind.access.rights import Rights


@dataclass(frozen=True, slots=True)
class Subject:
    """Somebody with a token of the issuer.

    Attributes:
        name: by which the issuer knows it, the claim `sub`.
        rights: what its token allows.
        until: from when on the token is refused, seconds since 1970.
    """

    name: str
    rights: Rights
    until: float

    @property
    def id(self) -> str:
        """The name in logs and among clients, which no key has."""
        return f"jwt:{self.name}"

    @property
    def called(self) -> str:
        """The words for it in a refusal."""
        return f"the token of {self.name}"


#: Whose request it is.
Holder = ApiKey | Subject
