"""`POST …:get` of several documents, next to a floor that fetches them with one MGET, in one run."""

from __future__ import annotations

from bench.http import FLOOR, OURS, compare, contending
from bench.load import DOCUMENT

#: Documents in a request.
COUNTS = (1, 3, 20, 100)
#: Bytes of a document.
SIZES = (500, 8_192)
SECONDS = 0.5


def main() -> None:
    """Compare writebehind with a bare endpoint."""
    with contending(FLOOR, OURS, seconds=SECONDS) as contenders:
        for size in SIZES:
            more = size - len(DOCUMENT)
            for one in contenders:
                one.measure("PUT", more)  # what is asked for
            for count in COUNTS:
                compare(contenders, "POST", more, count)


if __name__ == "__main__":
    main()
