"""A source of single files, as a walk finds them."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import ClassVar

from pauc_hub.sources.contract import Entry, Listing
from pauc_hub.sources.kept import Kept


def watched(entries: Iterator[Entry], watch: Callable[[Entry], object]) -> Iterator[Entry]:
    for entry in entries:
        watch(entry)
        yield entry


@dataclass
class Walked:
    """The files from `first` up to before `last`; what listing() found stays, lest what vanishes go
    unnoticed.
    """

    size: ClassVar[None] = None
    root: str
    walk: Callable[[Counter[str]], Iterator[Entry]]
    """Counts in its argument the files, by suffix, that it passes over."""
    first: int = 0
    last: int | None = None
    passed_over: Counter[str] = field(default_factory=Counter)
    """Files that are no images, by suffix; filled by listing()."""
    _kept: Kept | None = None

    def listing(self, watch: Callable[[Entry], object] | None = None) -> Listing:
        """Look once at all files.

        Args:
            watch: is shown each of them.
        """
        if self._kept is None:
            found = islice(self.walk(self._counter()), self.first, self.last)
            self._kept = Kept(watched(found, watch) if watch else found)
        elif watch:
            for entry in self._kept:
                watch(entry)
        return self._kept.listing

    def entries(self, start: int = 0) -> Iterator[Entry]:
        if self._kept is None:
            return islice(self.walk(Counter()), self.first + start, self.last)
        return islice(self._kept, start, None)

    def share(self, rank: int, ranks: int) -> "Walked":
        images = self.listing().images or 0
        first, last = (self.first + images * part // ranks for part in (rank, rank + 1))
        counted = self.passed_over if rank == 0 else Counter[str]()
        return replace(self, first=first, last=last, passed_over=counted, _kept=None)

    def _counter(self) -> Counter[str]:
        """Of a share, what the whole counted stands."""
        return self.passed_over if (self.first, self.last) == (0, None) else Counter()
