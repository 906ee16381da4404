"""The settings of one collection."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from writebehind.documents.durability import Durability
from writebehind.documents.raw_bson import VERSION_FIELD
from writebehind.documents.shard_key import KeyPart, KeyType, ShardKey
from writebehind.errors import RedisUnavailableError, SpoiledError
from writebehind.hooks import HookName, HookPath
from writebehind.regular_files import fault_of_file
from writebehind.settings.bounds import LONGEST_S, Count, Grace, Seconds
from writebehind.settings.queries import NAME, NamedQuery, WarmQuery

IdType = Literal["string", "objectid", "int", "uuid", "auto"]
WriteMode = Literal["behind", "through", "around"]
LookupType = Literal["string", "int", "objectid", "uuid"]
#: A field of a document, or of one within it.
FIELD_PATH = re.compile(r"[^.$\0][^.\0]*(\.[^.$\0][^.\0]*)*")


#: Parameters of lists, where those of lookups are fields: no lookup can be by one that is called so.
OF_LISTS = frozenset(("limit", "after", "fields"))


class ShardKeyField(BaseModel):
    """Settings of one field of a shard key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pattern: str = Field(
        "(.*)",
        description="what every id matches as a whole, with one group: the value of the field. The default is the "
        "whole id. For `_id` itself it says nothing",
    )
    type: KeyType = Field("string", description="type of the value: `string`, `int`, `objectid` or `uuid`")

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            groups = re.compile(self.pattern).groups
        except re.error as error:
            raise ValueError(f"shard_key: the pattern is not a regular expression: {error}") from error
        if groups != 1:
            raise ValueError("shard_key: the pattern needs one group, which is the value: (?:…) is for others")
        return self


class CollectionSettings(BaseModel):
    """Settings of one collection."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: IdType = Field("string", description="type of `_id`; `auto`: ObjectId for 24 hex digits, else string")
    id_pattern: str = Field(
        r"[A-Za-z0-9_~-][A-Za-z0-9_.~@:+=,|-]*",
        description="what string ids must match as a whole; the default is what needs no escaping in a URL",
    )
    ttl: Seconds = Field(
        3600, description="seconds that a document already in MongoDB stays in Redis, give or take a tenth"
    )
    stale_while_revalidate: Grace = Field(
        0, description="seconds after `ttl` in which a document is still served, while a task reads it anew"
    )
    stale_if_error: Grace = Field(
        0, description="seconds after `ttl` in which a document is still served where MongoDB does not answer"
    )
    lookup: dict[str, LookupType] = Field(
        {},
        description="unique fields that documents can be looked up by, with the type of their values: "
        '`{ username = "string", number = "int" }`; `objectid` and `uuid` are the others',
    )
    shard_key: dict[str, ShardKeyField] = Field(
        {},
        description="the fields of the collection's shard key, where that is not `_id` alone, each with what of "
        "an id is its value: `{ tenant = { pattern = '([^:]+):.*' }, _id = {} }`; see "
        "[below](#a-field-of-a-shard-key)",
    )
    warm: list[WarmQuery] = Field(
        [],
        description="queries whose documents are kept in Redis, whoever reads them: "
        "`[{ filter = { featured = true }, sort = { rank = 1 }, limit = 500 }]`; see "
        "[below](#a-query-whose-documents-are-kept-warm)",
    )
    queries: dict[str, NamedQuery] = Field(
        {},
        description="queries that clients may ask for by name: see [below](#a-cached-query)",
    )
    negative_ttl: Seconds = Field(30, description="seconds that Redis remembers that a document does not exist")
    write: WriteMode = Field(
        "behind",
        description="`behind`: answer when Redis has it; `through`: when MongoDB has it too; "
        "`around`: as `through`, and do not keep it in Redis",
    )
    durability: Durability = Field(
        Durability.BUFFERED,
        description="how far a write has come before it is answered, where the request asks for nothing else: "
        "`buffered`, `fsynced`, `replicated` or `persisted`",
    )
    on_conflict: Literal["ours", "theirs"] = Field(
        "ours",
        description="what stands if others change a document in MongoDB while a write to it is pending: "
        "`ours`, the pending write; `theirs`: the pending write becomes a dead letter",
    )
    bypass: bool = Field(
        True,
        description="serve reads from MongoDB while Redis does not answer; they may miss what is pending, and say "
        "`fwd=bypass` in Cache-Status",
    )
    max_dead_letters: Count = Field(
        10_000, description="dead letters from which writes to documents that are not pending are refused"
    )
    flush_delay_ms: Annotated[int, Field(ge=0, le=LONGEST_S * 1000)] = Field(
        1000,
        description="how long writes to one document are coalesced at most before they go to MongoDB; at least "
        "half of it, where others go that share its partition",
    )
    schema_file: Path | None = Field(None, description="a JSON Schema file that documents must satisfy")
    hooks: dict[HookName, HookPath] = Field(
        {},
        description="functions of your own that see documents on their way, by dotted path: "
        '`{ validate = "app.users.check" }`; `before_commit` and `after_persist` are the others, see '
        "[library.md](library.md#hooks)",
    )

    @cached_property
    def key(self) -> ShardKey | None:
        """The shard key; `None` where documents are found by their `_id` alone."""
        parts = [KeyPart(name, one.pattern, one.type) for name, one in self.shard_key.items() if name != "_id"]
        return ShardKey(tuple(self.shard_key), tuple(parts)) if parts else None

    @cached_property
    def grace_ms(self) -> int:
        """The time that a document stays in Redis after its TTL, ms."""
        return int(max(self.stale_while_revalidate, self.stale_if_error) * 1000)

    def may_bypass(self, error: RedisUnavailableError) -> bool:
        """Whether reads may go past a Redis that fails so: not past one that answers."""
        return self.bypass and not isinstance(error, SpoiledError)

    def wants(self, durability: Durability | None) -> Durability:
        """The durability that a write waits for when this one was asked for."""
        if self.write != "behind":
            return Durability.PERSISTED
        return durability or self.durability

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            re.compile(self.id_pattern)
        except re.error as error:
            raise ValueError(f"id_pattern is not a regular expression: {error}") from error
        for field in self.lookup:
            if not FIELD_PATH.fullmatch(field) or field == "_id":
                raise ValueError(f"lookup: {field!r} is not a field, or a path such as address.city")
            if field in OF_LISTS:
                raise ValueError(f"lookup: {field!r} is a parameter of lists: look up by another field")
        for field in self.shard_key:
            if not FIELD_PATH.fullmatch(field) or field == VERSION_FIELD:
                raise ValueError(f"shard_key: {field!r} is not a field, or a path such as address.country")
        for name in self.queries:
            if not NAME.fullmatch(name):
                raise ValueError(f"queries: {name!r} is not a usable name")
        if self.schema_file is not None and (fault := fault_of_file(self.schema_file)):
            raise ValueError(f"schema_file {str(self.schema_file)[:200]!r}: {fault}")
        return self


def is_file(path: Path) -> bool:
    """Whether there is such a file; a name that none can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
