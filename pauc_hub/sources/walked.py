"""A source of single files, as a walk finds them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from pauc_hub.sources.contract import Entry, Listing
from pauc_hub.sources.kept import Kept


def watched(entries: Iterator[Entry], watch: Callable[[Entry], object]) -> Iterator[Entry]:
    for entry in entries:
        watch(entry)
        yield entry


@dataclass
class Walked:
    """The files from `first` up to before `last`; what listing() found stays, lest what vanishes go unnoticed."""

    root: str
    walk: Callable[[], Iterator[Entry]]
    first: int = 0
    last: int | None = None
    _kept: Kept | None = None

    def listing(self, watch: Callable[[Entry], object] | None = None) -> Listing:
        """Look once at all files.

        Args:
            watch: is shown each of them.
        """
        if self._kept is None:
            self._kept = Kept(watched(self.entries(), watch) if watch else self.entries())
        elif watch:
            for entry in self._kept:
                watch(entry)
        return self._kept.listing

    def entries(self, start: int = 0) -> Iterator[Entry]:
        if self._kept is None:
            return islice(self.walk(), self.first + start, self.last)
        return islice(self._kept, start, None)

    def share(self, rank: int, ranks: int) -> "Walked":
        images = sum(1 for _ in self.entries())
        first, last = (self.first + images * part // ranks for part in (rank, rank + 1))
        return replace(self, first=first, last=last, _kept=None)
