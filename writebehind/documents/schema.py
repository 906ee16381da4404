"""JSON Schema for documents: checked on their relaxed Extended JSON form, without `_id`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson

from writebehind.documents import codec
from writebehind.errors import ConfigurationError, InvalidDocumentError


class Schema:
    """A compiled JSON Schema."""

    def __init__(self, path: Path) -> None:
        """Compile a file.

        Raises:
            ConfigurationError: it is not a JSON Schema.
        """
        try:
            self._validator: Any = jsonschema_rs.validator_for(orjson.loads(path.read_bytes()))
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"schema_file {path}: {error}") from error

    def check(self, body: bytes) -> None:
        """See that a document satisfies the schema.

        Args:
            body: BSON with an `_id`.

        Raises:
            InvalidDocumentError: it does not; the message names the place and the first thing that is wrong there.
        """
        instance = orjson.loads(codec.to_json(body))
        del instance["_id"]
        for error in self._validator.iter_errors(instance):
            place = "".join(f"/{part}" for part in error.instance_path)
            raise InvalidDocumentError(f"{place or 'the document'}: {error.message}")
