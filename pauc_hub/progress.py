"""Progress of long work, on stderr: a bar on a terminal, a line every half minute elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30.0


class Bar:
    """What the worker holds: it counts, and may show a few numbers beside the count."""

    def __init__(self, bar: "tqdm[None]") -> None:
        self._bar = bar

    def advance(self, count: int) -> None:
        self._bar.update(count)

    def note(self, **values: float | str) -> None:
        """Show values beside the count from the next refresh on."""
        self._bar.set_postfix(values, refresh=False)


@contextmanager
def progress_bar(
    total: int | None, what: str, unit: str = "images", quiet: bool = False, done: int = 0
) -> Iterator[Bar]:
    """A bar that is closed at the end, whatever happens; `quiet` shows nothing.

    Args:
        total: how many units there are, if known.
        what: what is being done, e.g. "embedding".
        done: how many were done in an earlier sitting; they do not count for the rate.
    """
    with tqdm(
        total=total, initial=done, desc=what, unit=f" {unit}", disable=quiet, **_appearance()
    ) as bar:
        yield Bar(bar)


class DownloadBar(tqdm):  # type: ignore[misc]
    """What huggingface_hub shows a download with: the same bar, counting bytes."""

    def __init__(self, **given: Any) -> None:
        file = given.get("desc", "").rpartition("/")[2]
        super().__init__(**(given | _appearance() | {"desc": f"fetching {file}"}))


class SilentDownloadBar(tqdm):  # type: ignore[misc]
    """One that is not seen."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**(given | {"disable": True}))


def _appearance() -> dict[str, Any]:
    terminal = sys.stderr.isatty()
    return {
        "file": sys.stderr if terminal else cast(TextIO, _Lines(sys.stderr)),
        "leave": False,
        "dynamic_ncols": terminal,
        "mininterval": 0.2 if terminal else SECONDS_BETWEEN_LINES,
        "miniters": 1,
        "delay": 0 if terminal else SECONDS_BETWEEN_LINES,
        "bar_format": None
        if terminal
        else "{desc}: {n_fmt}/{total_fmt}, {rate_fmt}, {remaining} left{postfix}",
    }


class _Lines:
    """A stream that turns a bar's carriage returns into lines of a log."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        line = text.strip("\r\n ")
        return self._stream.write(f"{line}\n") if line else 0

    def flush(self) -> None:
        self._stream.flush()
