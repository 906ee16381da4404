"""Functions of a team's own that see documents on their way: before a write is taken, and once MongoDB has it."""

from __future__ import annotations

import inspect
import logging
import os
import pkgutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field, ValidationError

from writebehind import strict
from writebehind.documents import codec
from writebehind.documents.ids import DocumentId
from writebehind.documents.patches import Document
from writebehind.errors import ConfigurationError, InvalidArgumentError, InvalidDocumentError, WritebehindError
from writebehind.logs.quoting import quoted

log = logging.getLogger(__name__)

HookName = Literal["validate", "before_commit", "after_persist"]
HOOKS: tuple[HookName, ...] = get_args(HookName)
#: Where a function is: `package.module.function` or `package.module:function`.
HookPath = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*([.:][A-Za-z_]\w*)+$")]


@dataclass(frozen=True, slots=True)
class Persisted:
    """A version that MongoDB has.

    Attributes:
        id: the document.
        version: microseconds of the Redis clock; grows with every write to the document.
        body: BSON without `_v`, b'' for a deletion.
    """

    id: DocumentId
    version: int
    body: bytes

    @property
    def document(self) -> Document | None:
        """The document as native values, decoded now; `None` for a deletion."""
        return codec.decode(self.body) if self.body else None


@dataclass(frozen=True, slots=True)
class Hooks:
    """The hooks of one collection; `None` for none. All are plain functions, called in the thread that is at work.

    Attributes:
        validate: takes a document and its id; what it raises, or `False`, refuses the write. Or a pydantic model's
            class, which the document must satisfy.
        before_commit: takes a document and its id, and returns the document that is written instead.
        after_persist: takes versions of one collection that MongoDB has, as `Persisted`; what it raises is logged.
    """

    validate: Callable[[Document, DocumentId], object] | type[BaseModel] | None = None
    before_commit: Callable[[Document, DocumentId], Mapping[str, Any] | BaseModel] | None = None
    after_persist: Callable[[Sequence[Persisted]], object] | None = None

    def __post_init__(self) -> None:
        """See that each can be called.

        Raises:
            InvalidArgumentError: one cannot, or is a coroutine function.
        """
        for name in HOOKS:
            hook = getattr(self, name)
            if hook is not None:
                strict.function(name, hook)
            if inspect.iscoroutinefunction(hook):
                raise InvalidArgumentError(
                    f"{name} must be a plain function: nobody would await {hook.__qualname__}"
                )

    def transformed(self, document: Document, document_id: DocumentId) -> Document:
        """The document that `before_commit` makes of one, which is its own to change.

        Raises:
            InvalidDocumentError: it raises something, or makes no document.
            WritebehindError: what it raises, if that is one of ours.
        """
        if self.before_commit is None:
            return document
        try:
            made: object = self.before_commit(document, document_id)
        except Exception as error:
            raise _refusal("before_commit", error) from error
        try:
            return strict.document(made)
        except InvalidDocumentError as error:
            raise InvalidDocumentError(f"before_commit: {error}") from error

    def check(self, document: Document, document_id: DocumentId) -> None:
        """See that `validate` accepts a document.

        Raises:
            InvalidDocumentError: it does not.
            WritebehindError: what it raises, if that is one of ours.
        """
        validate = self.validate
        if validate is None:
            return
        try:
            if isinstance(validate, type) and issubclass(validate, BaseModel):
                validate.model_validate(document)
                return
            accepted = validate(document, document_id)  # type: ignore[call-arg]
        except Exception as error:
            raise _refusal("validate", error) from error
        if accepted is False:
            raise InvalidDocumentError("validate refuses this document")

    def tell(self, persisted: Sequence[Persisted]) -> bool:
        """Have `after_persist` see versions that MongoDB has; false where it raised something, which is logged."""
        if self.after_persist is None or not persisted:
            return True
        try:
            self.after_persist(persisted)
        except Exception:
            such = persisted[0].id
            log.exception(
                "after_persist failed for %d of %s, such as %s",
                *(len(persisted), such.collection, quoted(such.text)),
                extra={"event": "hook_failed"},
            )
            return False
        return True


NO_HOOKS = Hooks()


class InstalledHooks:
    """The hooks of all collections. Safe to share between threads."""

    def __init__(self, given: Mapping[str, Hooks] | None, paths: Callable[[str], Mapping[HookName, str]]) -> None:
        """Take those that were given in code, by collection, and the paths in a collection's settings.

        Raises:
            InvalidArgumentError: those that were given are something else.
        """
        self.given: dict[str, Hooks] = {} if given is None else strict.named("hooks", given)
        for name, one in self.given.items():
            strict.instance(f"hooks of {name}", one, Hooks)
        self._paths = paths

    def of(self, collection: str) -> Hooks:
        """The hooks of a collection: each as it was given, else as the settings name it.

        Raises:
            ConfigurationError: a path leads to no plain function.
        """
        given, paths = self.given.get(collection, NO_HOOKS), self._paths(collection)
        if not paths:
            return given
        return Hooks(**{name: getattr(given, name) or _found(name, paths.get(name, "")) for name in HOOKS})


@lru_cache
def _found(name: str, path: str) -> Any:
    if not path:
        return None
    here = os.getcwd()  # noqa: PTH109 - as sys.path has it
    if here not in sys.path and "" not in sys.path:  # where the settings are, as Celery does for its applications
        sys.path.append(here)
    try:
        found = pkgutil.resolve_name(path)
        Hooks(**{name: found})
    except InvalidArgumentError as error:
        raise ConfigurationError(f"hooks.{name} {path}: {error}") from error
    except Exception as error:  # whatever the module does when it is imported
        raise ConfigurationError(f"hooks.{name} {path}: {type(error).__name__}: {error}") from error
    return found


def _refusal(name: str, error: Exception) -> WritebehindError:
    """The error that refuses a write: one of ours as it is; of others what they say to whoever writes."""
    if isinstance(error, WritebehindError):
        return error
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        place = ".".join(map(str, first["loc"])) or "the document"
        return InvalidDocumentError(f"{place}: {first['msg']}{more}")
    if isinstance(error, ValueError | AssertionError) and str(error):
        return InvalidDocumentError(str(error))
    log.error("%s failed, and the write was refused", name, exc_info=error, extra={"event": "hook_failed"})
    return InvalidDocumentError(f"{name} does not accept this document: {type(error).__name__}")
