"""Bounds of settings: times, counts, and what only a typing error goes beyond."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

#: The longest time that a setting may be, seconds: ten years. Redis and the system take no endless ones.
LONGEST_S = 315_360_000
Milliseconds = Annotated[int, Field(gt=0, le=LONGEST_S * 1000)]
#: From a millisecond on, as Redis lets nothing live for none.
Seconds = Annotated[float, Field(ge=0.001, le=LONGEST_S)]
Grace = Annotated[float, Field(ge=0, le=LONGEST_S)]
#: The largest whole number: Redis, its Lua and MongoDB have it exactly.
MOST = 10**15
Count = Annotated[int, Field(gt=0, le=MOST)]
CountOrNone = Annotated[int, Field(ge=0, le=MOST)]
#: In a second, of what is done again and again.
Rate = Annotated[float, Field(ge=0.001, le=MOST)]
#: The same, or 0 for none.
RateOrNone = Annotated[float, Field(ge=0, le=MOST)]
#: Of processes and of threads: more than any machine has use for is a typing error.
Processes = Annotated[int, Field(gt=0, le=1_024)]
Port = Annotated[int, Field(ge=1, le=65535)]

MEBIBYTE = 1 << 20
