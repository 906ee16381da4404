"""Algorithms of signatures (RFC 7518, RFC 8037) that tokens may have.

All of them are by public keys: neither `none`, nor HS*, whose secret a public key would be taken for.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

from writebehind.access.hosts import split

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
#: A list, in the environment with commas between its parts.
Algorithms = Annotated[list[Algorithm], NoDecode, BeforeValidator(split), Field(min_length=1)]
