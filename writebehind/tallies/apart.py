"""The collections that have series of their own: those of the settings, and so many others at most."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress

from writebehind import forks
from writebehind.errors import UnavailableError
from writebehind.tallies.families import MOST_UNLISTED, OTHER

#: Says which collections besides the listed ones all processes tell apart, and adds new ones while there is room;
#: it may raise `UnavailableError`.
Agree = Callable[[list[str]], Iterable[str]]


class ToldApart:
    """The names that this process tells apart, where it counts and on its pages. Safe to share between threads.

    A page shows `MOST_UNLISTED` others at most. Who was shown stays, and once it is full nobody comes: no series
    ends, and nothing leaves the sum of those that are not told apart, which would seem to have begun anew.

    Attributes:
        by: is asked beside the hot path, under no lock; `None` where this process decides for itself.
    """

    def __init__(self, listed: Iterable[str] = ()) -> None:
        """Tell the listed ones apart however many others there are."""
        self.by: Agree | None = None
        self._listed = frozenset((*listed, OTHER))
        #: Those that are counted by name here; that pages show; and the others that all processes tell apart.
        self._counted, self._shown = {*self._listed}, {*self._listed}
        self._agreed: frozenset[str] = frozenset()
        self._most = len(self._listed) + MOST_UNLISTED
        #: Whether the list was seen; and whether a name has come that others may have added there since.
        self._was_told = self._is_curious = False
        self._lock = forks.lock()

    @property
    def is_known(self) -> bool:
        """Whether it is known what all processes agree on, or there is nobody to be asked."""
        return self._was_told or self.by is None

    def meet(self, name: str, *, has_documents: bool) -> bool:
        """Whether to count a collection by its name.

        One that has documents is counted so from now on, if there is room. Others may be what clients ask for by
        mistake: they are only where nobody can be asked.
        """
        if name in self._counted:
            return True
        with self._lock:
            if (has_documents or self.by is None) and len(self._counted) < self._most:
                self._counted.add(name)
                return True
            self._is_curious = True
            return False

    def agree(self, names: Iterable[str] = ()) -> None:
        """Learn whom all processes tell apart, and have those added that were met here, and these.

        Nobody is asked where nothing is new, or where the list is full. While Redis is away it is known later.
        """
        with self._lock:
            new = [one for one in dict.fromkeys((*sorted(self._counted), *names)) if self._is_new(one)]
            by = self.by
            is_asked = new or self._is_curious or not self._was_told
            if by is None or not is_asked or len(self._agreed) >= MOST_UNLISTED:
                return
        with suppress(UnavailableError):
            agreed = [*by(new)]
            with self._lock:
                self._agreed, self._was_told, self._is_curious = frozenset(agreed), True, False
                self._counted.update(agreed)
                self._show(agreed)

    def shown(self, names: Collection[str]) -> Collection[str]:
        """Those of the names that have series of their own on pages: each as long as there is room."""
        with self._lock:
            self._show(names)
            return self._shown.intersection(names)

    def _is_new(self, name: str) -> bool:
        return name not in self._agreed and name not in self._listed

    def _show(self, names: Iterable[str]) -> None:
        for one in names:
            if len(self._shown) >= self._most:
                break
            self._shown.add(one)
