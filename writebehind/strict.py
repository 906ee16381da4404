"""Arguments of the library, which has no compiler before it: what is not exactly one of its values is refused.

Python takes a text for a sequence of letters, any value for true or false, and a missing one for a default. A
condition or a promise that is misspelt must never become a weaker one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from pydantic import BaseModel

from writebehind.documents.durability import Durability
from writebehind.errors import InvalidArgumentError, InvalidDocumentError

#: Types that are iterable and never a list of things.
_NO_LISTS = (str, bytes, bytearray, memoryview, Mapping)


class _Unconditional(tuple[str, ...]):
    """No ETags, and yet no list of them that somebody has made and found empty."""

    __slots__ = ()


#: No condition: what holds where none is given.
UNCONDITIONAL: Final = _Unconditional()


def durability(given: object) -> Durability | None:
    """A level, or its exact text; `None` for what the settings say.

    Raises:
        InvalidArgumentError: it is neither.
    """
    if given is None or isinstance(given, Durability):
        return given
    found = next((level for level in Durability if isinstance(given, str) and level.value == given), None)
    if found is None:
        raise InvalidArgumentError(f"durability must be one of {', '.join(Durability)}, not {shown(given)}")
    return found


def etags(given: object) -> tuple[str, ...]:
    """ETags of which a document must have one; a text is one ETag, or `ANY`; `UNCONDITIONAL` is none.

    Raises:
        InvalidArgumentError: they are neither a text nor texts; or there are none, which any state would fit.
    """
    if isinstance(given, _Unconditional):
        return given
    if isinstance(given, str):
        return (text("if_match", given),)
    found = tuple(text("an ETag in if_match", one) for one in each("if_match", given))
    if not found:
        raise InvalidArgumentError("if_match has no ETag: leave it out where any state will do")
    return found


def flag(name: str, given: object) -> bool:
    """`True` or `False`, and nothing that only counts as one.

    Raises:
        InvalidArgumentError: it is neither.
    """
    if not isinstance(given, bool):
        raise InvalidArgumentError(f"{name} must be True or False, not {shown(given)}")
    return given


def text(name: str, given: object) -> str:
    """A text; of a subclass, such as an enum, what it holds and not what it shows.

    Raises:
        InvalidArgumentError: it is none.
    """
    if not isinstance(given, str):
        raise InvalidArgumentError(f"{name} must be a str, not {shown(given)}")
    return str.__str__(given)


def each(name: str, given: object) -> Iterable[Any]:
    """Several things, one after the other; a text, bytes or a mapping is one.

    Raises:
        InvalidArgumentError: it is one thing.
    """
    if isinstance(given, _NO_LISTS) or not isinstance(given, Iterable):
        raise InvalidArgumentError(f"{name} must be a list or another sequence, not {shown(given)}")
    return given


def named(name: str, given: object) -> dict[str, Any]:
    """Values by name.

    Raises:
        InvalidArgumentError: it is no mapping.
    """
    if not isinstance(given, Mapping):
        raise InvalidArgumentError(f"{name} must be a dict, not {shown(given)}")
    return dict(given)


def document(given: object, *, only_set: bool = False) -> dict[str, Any]:
    """A document: a mapping, or a pydantic model.

    A model gives its fields by their aliases, which is the only way for one to be called `_id`, and as Python
    values, so that dates, UUIDs and ObjectIds keep their types. With `only_set` it gives those that were set.

    Raises:
        InvalidDocumentError: it is neither, or the model cannot be dumped to a mapping.
    """
    dumped = given
    if isinstance(given, BaseModel):
        try:
            dumped = given.model_dump(by_alias=True, exclude_unset=only_set)
        except ValueError as error:  # pydantic's own, and those of serializers
            raise InvalidDocumentError(f"{type(given).__name__} cannot be dumped: {error}") from error
    if not isinstance(dumped, Mapping):
        raise InvalidDocumentError(f"a document must be a mapping or a pydantic model, not {shown(given)}")
    return dict(dumped)


def function(name: str, given: Any) -> Callable[..., Any]:
    """Something that can be called.

    Raises:
        InvalidArgumentError: it cannot.
    """
    if not callable(given):
        raise InvalidArgumentError(f"{name} must be a function, not {shown(given)}")
    called: Callable[..., Any] = given
    return called


def instance(name: str, given: object, kind: type) -> None:
    """See that a value is of a class.

    Raises:
        InvalidArgumentError: it is not.
    """
    if not isinstance(given, kind):
        raise InvalidArgumentError(f"{name} must be {kind.__name__}, not {shown(given)}")


def shown(given: object) -> str:
    """A given value as text, without its content if that could be long or secret."""
    return (
        repr(given)[:60] if given is None or isinstance(given, bool | int | float | str) else type(given).__name__
    )
