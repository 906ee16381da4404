"""What the atomic steps have counted adds up."""

from __future__ import annotations

from collections.abc import Mapping


def adds_up(counted: Mapping[str, int], *, pending: int) -> bool:
    """Whether each write that came is accounted for once: it is pending, or one thing has become of it."""
    came = ("acknowledged", "replayed", "marked", "adopted")
    went = ("persisted", "deleted", "coalesced", "buried", "let_go")
    return sum(counted[name] for name in came) == sum(counted[name] for name in went) + pending
