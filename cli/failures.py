"""From an exception to the one line and the exit code that the user gets."""

import functools
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ParamSpec

import typer

from pauc_hub.cli.flags import with_flags
from pauc_hub.errors import Interrupted, NoImages, Note, OutputExists, PaucError, UsageError
from pauc_hub.terminal import on_one_line

Options = ParamSpec("Options")

FAILED, WRONG_USAGE, SOME_UNREADABLE, INTERRUPTED = 1, 2, 3, 130


def explain(error: BaseException) -> tuple[str, int]:
    """The message, one line, and the exit code."""
    message, code = _explain(error)
    return on_one_line(message), code


def say(message: str) -> None:
    """To stderr, unless nothing went wrong."""
    if message:
        print(f"error: {message}", file=sys.stderr)


@contextmanager
def notes_printed(
    *, quiet: bool, others: bool, flags: Callable[[], Mapping[str, str]]
) -> Iterator[None]:
    """Print the library's notes to stderr, a line each, once a machine.

    Args:
        quiet: no notes.
        flags: parameter to flag, as for with_flags().
        others: leave all other warnings as they are; they address programmers, and are dropped
            otherwise.
    """
    with warnings.catch_warnings():
        if not others:
            warnings.simplefilter("ignore")
        tell = os.environ.get("LOCAL_RANK", "0") == "0" and not quiet
        warnings.simplefilter("always" if tell else "ignore", Note)
        show = warnings.showwarning

        def show_note(
            message: Warning | str, category: type[Warning], *place: Any, **options: Any
        ) -> None:
            if issubclass(category, Note):
                print(f"note: {on_one_line(with_flags(str(message), flags()))}", file=sys.stderr)
            else:
                show(message, category, *place, **options)

        warnings.showwarning = show_note
        yield


def said_once_a_machine(command: Callable[Options, None]) -> Callable[Options, None]:
    """Of several processes with one command, the first on each machine tells what all find
    alike.
    """

    @functools.wraps(command)
    def quieter(*given: Options.args, **named: Options.kwargs) -> None:
        try:
            command(*given, **named)
        except (UsageError, NoImages, OutputExists, Interrupted) as error:
            if os.environ.get("LOCAL_RANK", "0") == "0":
                raise
            raise typer.Exit(explain(error)[1]) from error

    return quieter


def _explain(error: BaseException) -> tuple[str, int]:
    match error:
        case KeyboardInterrupt() | typer.Abort():
            return "interrupted", INTERRUPTED
        case Interrupted():
            return str(error), INTERRUPTED
        case UsageError():
            return str(error), WRONG_USAGE
        case PaucError():
            return str(error), FAILED
        case typer.TyperException():
            said = error.format_message().replace("Value error, ", "")
            stop = "" if said.endswith((".", "?")) else "."
            return f"{said}{stop} `{_command(error)} --help` shows what there is.", WRONG_USAGE
        case OSError(strerror=str(reason), filename=place) if reason:
            return f"{reason}: '{place}'" if place else reason, FAILED
        case MemoryError():
            return "not enough memory. A smaller --batch-size needs less.", FAILED
        case _:
            return f"{type(error).__name__}: {error} (unexpected; --debug shows where)", FAILED


def _command(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return context.command_path if context else "pauc"
