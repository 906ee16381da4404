"""Rules that a document must satisfy before it is committed, and its BSON."""

from __future__ import annotations

from bson import Timestamp

from writebehind import strict
from writebehind.documents import codec, raw_bson
from writebehind.documents.entry import Entry, Kind
from writebehind.documents.ids import DocumentId, read_id
from writebehind.documents.patches import Document
from writebehind.documents.schema import Schema
from writebehind.errors import DocumentTooLargeError, InvalidDocumentError, InvalidIdError
from writebehind.hooks import Hooks
from writebehind.settings.collection import CollectionSettings

_EMPTY_TIMESTAMP = Timestamp(0, 0)


class DocumentCheck:
    """Checks and encodes documents of one collection. Safe to share between threads."""

    def __init__(self, collection: str, settings: CollectionSettings, hooks: Hooks, *, max_bytes: int) -> None:
        """Take what they must satisfy; `max_bytes` bounds their BSON.

        Raises:
            ConfigurationError: the collection's schema file is not a JSON Schema.
        """
        self._collection = collection
        self._settings = settings
        self._hooks = hooks
        self._max_bytes = max_bytes
        self._key = settings.key
        self._schema = Schema(settings.schema_file) if settings.schema_file else None

    def id(self, given: object) -> DocumentId:
        """The document that a caller names, by native id or by its text.

        Raises:
            InvalidIdError: it does not fit the collection's id type.
        """
        found = DocumentId.of(self._collection, read_id(given, self._settings.id, self._settings.id_pattern))
        if self._key is not None:
            self._key.check(found)
        return found

    def entry(self, document_id: DocumentId, document: object) -> Entry:
        """Check a document and encode it. What the hooks see is a copy, and `validate` sees what is stored.

        Raises:
            InvalidDocumentError: it cannot be stored.
            DocumentTooLargeError: it is larger than the settings allow.
        """
        body = self._encoded(document_id, strict.document(document))
        if self._hooks.before_commit is not None:
            body = self._encoded(document_id, self._hooks.transformed(codec.decode(body), document_id))
        if len(body) > self._max_bytes:
            raise DocumentTooLargeError(
                f"the document takes {len(body)} bytes as BSON; {self._max_bytes} are allowed"
            )
        if self._schema is not None:
            self._schema.check(body)
        if self._hooks.validate is not None:
            self._hooks.check(codec.decode(body), document_id)
        return Entry(0, Kind.DOCUMENT, raw_bson.etag(body), body)

    def _encoded(self, document_id: DocumentId, document: Document) -> bytes:
        for name, value in document.items():
            if name == raw_bson.VERSION_FIELD or (isinstance(name, str) and name.startswith("$")):
                raise InvalidDocumentError(f"{name!r} is a reserved field name: choose another")
            # What Redis has must be what MongoDB will have.
            if isinstance(value, Timestamp) and value == _EMPTY_TIMESTAMP:
                raise InvalidDocumentError(f"{name!r}: MongoDB replaces Timestamp(0, 0) by its own time")
        if "_id" in document and not self._is_id(document["_id"], document_id):
            raise InvalidDocumentError("the document's _id differs from the id that it is written under")
        whole = {"_id": document_id.value} | document | {"_id": document_id.value}
        return codec.encode(whole if self._key is None else self._key.fill(whole, document_id))

    def _is_id(self, given: object, document_id: DocumentId) -> bool:
        try:
            return self.id(given).member == document_id.member
        except InvalidIdError:
            return False
