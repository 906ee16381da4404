"""Queries in the settings: what is written there is MongoDB's own language, in Extended JSON."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal, Self

from bson import json_util
from bson.errors import BSONError
from pydantic import BaseModel, ConfigDict, Field, model_validator

#: A field of a document, or of one within it, and the direction: 1 up, -1 down.
Sort = dict[str, Literal[1, -1]]

#: The most documents that a query may warm.
MOST_WARMED = 100_000
#: What runs code in the server.
_CODE = {"$where", "$function", "$accumulator"}


def native(value: Any) -> Any:
    """A value as BSON has it, from Extended JSON that is parsed already.

    Raises:
        ValueError: it is no Extended JSON, or names code to run.
    """
    match value:
        case dict():
            if code := _CODE & value.keys():
                raise ValueError(f"{min(code)} is not allowed: it runs code in MongoDB")
            inner = {name: native(one) for name, one in value.items()}
            try:
                return json_util.object_hook(inner)
            except (TypeError, ValueError, BSONError) as error:
                raise ValueError(f"{value} is not Extended JSON: {error}") from error
        case list():
            return [native(one) for one in value]
    return value


class WarmQuery(BaseModel):
    """Documents that are kept warm, whoever reads them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    filter: dict[str, Any] = Field({}, description="which documents, as for MongoDB's `find`, in Extended JSON")
    sort: Sort = Field({}, description="their order: a field and 1 or -1")
    limit: Annotated[int, Field(gt=0, le=MOST_WARMED)] = Field(1_000, description="how many of them")

    @cached_property
    def native(self) -> dict[str, Any]:
        """The filter as BSON has it."""
        found: dict[str, Any] = native(self.filter)
        return found

    @model_validator(mode="after")
    def _check(self) -> Self:
        if type(native(self.filter)) is not dict:
            raise ValueError("filter must be a document")
        return self
