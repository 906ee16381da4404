"""Parts that the declarations of several routes of documents have in common."""

from __future__ import annotations

from writebehind.flask.description.operations import Responses, content
from writebehind.flask.representations import CANONICAL, JSON

#: Statuses of problems.
READING = "404 406 409 412"
WRITING = "404 409 412 415 422"
SEVERAL = "404 415 422"
#: Content types of answers with documents.
FORMS = (JSON, CANONICAL.content_type)
READ: Responses = {"200": content("Document", *FORMS), "304": None}
WRITTEN = content("Written")
DOCUMENT_BODY = content("Document")
