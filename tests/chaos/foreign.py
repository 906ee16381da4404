"""A client that reads what only others can have written, as it is too large for clients, whatever happens."""

from __future__ import annotations

import httpx
from bson import Int64
from pymongo import MongoClient

from tests.chaos.clients import Client, NotDoneError
from tests.chaos.faults import System
from tests.sizes import FOREIGN, FOREIGN_LIMIT, VERSION_BYTES, sized

FOREIGN_COLLECTION = "foreign"
#: As MongoDB has them: without a version, and as large as it takes them with one.
FOREIGN_DOCUMENTS = {
    **{f"f{size}": sized(f"f{size}", size) for size in FOREIGN},
    "versioned": sized("versioned", FOREIGN_LIMIT - VERSION_BYTES) | {"_v": Int64(7)},
}
#: Between two reads, seconds: each moves 16 MB several times.
PAUSE_S = 1.0


def write_foreign(system: System) -> None:
    """Write them past the pipeline."""
    with MongoClient(system.mongo.url) as client:
        collection = client[system.stack.mongodb_database][FOREIGN_COLLECTION]
        for key, one in FOREIGN_DOCUMENTS.items():
            collection.replace_one({"_id": key}, one, upsert=True)


class Onlooker(Client):
    """Reads them, now and then."""

    def _act(self) -> None:
        self._read(self._dice.choice(list(FOREIGN_DOCUMENTS)))
        self._over.wait(PAUSE_S)

    def _read(self, key: str) -> None:
        try:
            answer = self._send("GET", f"/v1/{FOREIGN_COLLECTION}/{key}")
        except NotDoneError as error:
            answer = error.answer
        if answer is not None and answer.status_code != 503:
            self._compare(key, answer)

    def _compare(self, key: str, answer: httpx.Response) -> None:
        wanted = {name: value for name, value in FOREIGN_DOCUMENTS[key].items() if name != "_v"}
        if answer.status_code != 200 or answer.json() != wanted:
            self._history.misled(key, f"{answer.status_code}, and not the document of others")

    def look_back(self, http: httpx.Client) -> None:
        """After all faults, read each once more: they all are as they were."""
        for key in FOREIGN_DOCUMENTS:
            self._compare(key, self._in_peace(http, f"/v1/{FOREIGN_COLLECTION}/{key}"))
