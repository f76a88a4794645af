"""What the system refuses, as one line for people: which file, why, and what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pauc_hub.errors import PaucError


@contextmanager
def writing(path: Path, way_out: str, kind: type[PaucError] = PaucError) -> Iterator[None]:
    """Say what could not be written.

    Args:
        way_out: how the line goes on after the reason.
        kind: of the error.

    Raises:
        PaucError: in place of an OSError; or its child `kind`.
    """
    try:
        yield
    except OSError as error:
        raise kind(f"'{path}' could not be written ({error.strerror or error}){way_out}") from error


@contextmanager
def reading(path: Path, kind: type[PaucError], way_out: str = ".") -> Iterator[None]:
    """Say what cannot be read; the rest as for writing()."""
    try:
        yield
    except OSError as error:
        raise kind(f"'{path}' cannot be read ({error.strerror or error}){way_out}") from error
