"""Whose documents a Redis holds: the MongoDB database that what is pending goes to, and what is cached came from.

Its name is all that is compared: docs/adr/0037-one-redis-belongs-to-one-database.md says why.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from writebehind.errors import ForeignDatabaseError

#: No name of a database has a slash in it, so whoever puts a bare word there puts no record there.
_RECORD = re.compile(rb"(?:database|moving/([^/\x00]{1,63}))/([^/\x00]{1,63})")
#: A name out of the environment may be no UTF-8: then MongoDB refuses it, and not this.
_ANY = "surrogatepass"


@dataclass(frozen=True, slots=True)
class Owner:
    """The recorded MongoDB database.

    Attributes:
        database: its name.
        target: the database that this Redis is being given to; `None` while that is not changed.
    """

    database: str
    target: str | None = None

    @classmethod
    def parse(cls, record: bytes | None) -> Self | None:
        """Read what `record` made; `None` for nothing, or what other hands have written."""
        found = _RECORD.fullmatch(record or b"")
        if found is None:
            return None
        try:
            last = found[2].decode(errors=_ANY)
            return cls(found[1].decode(errors=_ANY), last) if found[1] else cls(last)
        except UnicodeDecodeError:
            return None

    @property
    def record(self) -> bytes:
        """The record as it stands in Redis."""
        names = ("database", self.database) if self.target is None else ("moving", self.database, self.target)
        return "/".join(names).encode(errors=_ANY)

    def fits(self, database: str) -> bool:
        """Whether documents of this database may be read and written in this Redis."""
        return self.target is None and self.database == database

    def check(self, database: str) -> None:
        """See that it fits.

        Raises:
            ForeignDatabaseError: it does not; the message says what to do.
        """
        if self.target is not None:
            raise ForeignDatabaseError(
                f"MONGODB_DATABASE: this Redis is being moved from database {self.database!r} to {self.target!r}, "
                f"or that was interrupted: finish it by `writebehind adopt` with MONGODB_DATABASE={self.target}, "
                f"or undo it with {self.database}"
            )
        if self.database != database:
            raise ForeignDatabaseError(
                f"MONGODB_DATABASE: this Redis belongs to database {self.database!r}, not to {database!r}: set "
                "REDIS_URL to a Redis database that no other installation uses, such as /1 instead of /0; or, if "
                "the documents have moved, see `writebehind adopt --help`"
            )
