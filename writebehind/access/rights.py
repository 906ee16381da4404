"""Rights: read or write the documents of collections, or operate the service."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from writebehind.errors import InvalidArgumentError

#: In the place of a collection: all of them.
EVERY = "*"
#: As many grants as one key may have.
MOST = 1_000
#: A collection as a grant names it; which names there can be, `settings.names` says.
_COLLECTION = re.compile(r"\*|[A-Za-z_][A-Za-z0-9_.-]{0,119}", re.ASCII)


class Right(StrEnum):
    """One thing that somebody may be allowed."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


#: Each request asks for a right; an attribute of an enumeration costs as much as a call.
_READ, _ADMIN = Right.READ, Right.ADMIN


@dataclass(frozen=True, slots=True)
class Rights:
    """Rights: to operate, and by collection to read and to write; `*` is every collection."""

    admin: bool = False
    read: frozenset[str] = frozenset()
    write: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, grants: Iterable[str]) -> Self:
        """Read grants such as `users:read,write`, `*:read` and `admin`.

        Raises:
            InvalidArgumentError: one is none of these; or there is none, or too many.
        """
        admin, allowed = False, {Right.READ: set[str](), Right.WRITE: set[str]()}
        given = list(grants)
        if not 0 < len(given) <= MOST:
            raise InvalidArgumentError(f"grant 1 to {MOST} rights, such as users:read,write or admin")
        for grant in given:
            if grant == Right.ADMIN:
                admin = True
                continue
            collection, _, rights = grant.partition(":")
            names = rights.split(",")
            if not _COLLECTION.fullmatch(collection) or not set(names) <= {Right.READ, Right.WRITE}:
                raise InvalidArgumentError(
                    f"{grant[:100]!r} grants nothing: name a collection, or * for all, with what is allowed, such "
                    "as users:read,write or *:read; or admin"
                )
            for name in names:
                allowed[Right(name)].add(collection)
        return cls(admin, frozenset(allowed[Right.READ]), frozenset(allowed[Right.WRITE]))

    @property
    def grants(self) -> Sequence[str]:
        """These rights as `parse` takes them, in order."""
        found = []
        for collection in sorted(self.read | self.write):
            names = [
                right for right, some in ((Right.READ, self.read), (Right.WRITE, self.write)) if collection in some
            ]
            found.append(f"{collection}:{','.join(names)}")
        return [*found, str(Right.ADMIN)] if self.admin else found

    def allow(self, right: Right, collection: str | None = None) -> bool:
        """Whether somebody with them may do this: to documents of a collection, unless it is to operate."""
        if right is _ADMIN:
            return self.admin
        some = self.read if right is _READ else self.write
        return collection in some or EVERY in some


def named(right: Right, collection: str | None = None) -> str:
    """The grant that allows this, as `Rights.parse` takes it."""
    return str(right) if right is Right.ADMIN else f"{collection}:{right}"
