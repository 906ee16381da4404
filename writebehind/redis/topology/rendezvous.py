"""Rendezvous hashing: which of several servers a partition belongs to, as everybody finds out alone.

Each server has a weight for each partition, by a hash of both names, and the highest has it. A server that comes
takes only what it then has, and what one had that goes is spread over the others; nothing else moves.

Source: D. Thaler, C. Ravishankar, "Using name-based mappings to increase hit rates", IEEE/ACM Transactions on
Networking 6(1), 1998, https://doi.org/10.1109/90.663936
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256


def owner(tag: str, servers: Iterable[str]) -> str:
    """The server, of at least one, that a partition belongs to, by its number as text."""
    return max(servers, key=lambda name: (sha256(f"{name}/{tag}".encode()).digest(), name))
