"""`POST …:get` of several documents, next to a floor that fetches them with one MGET, in one run."""

from __future__ import annotations

from bench.http import FLOOR, OURS, compare, contending
from bench.load import DOCUMENT
from bench.rows import Row, command
from tests.sizes import LEAST_BESIDE, LIMIT
from writebehind import Settings

#: Documents in a request.
COUNTS = (1, 3, 20, 100)
#: Bytes of a document.
SIZES = (500, 8_192, LIMIT - LEAST_BESIDE)
#: Bytes of an answer, above which it leaves documents out.
MOST_BYTES: int = Settings.model_fields["max_answer_bytes"].default
SECONDS = 0.5


def main() -> list[Row]:
    """Compare writebehind with a bare endpoint."""
    rows: list[Row] = []
    with contending(FLOOR, OURS, seconds=SECONDS) as contenders:
        for size in SIZES:
            more = size - len(DOCUMENT)
            for one in contenders:
                one.measure("PUT", more)  # what is asked for
            for count in COUNTS:
                if count * size <= MOST_BYTES:
                    rows += compare(contenders, "POST", more, count)
    return rows


if __name__ == "__main__":
    command("many", main, __doc__)
