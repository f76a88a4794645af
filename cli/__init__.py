"""The command line, `pauc VERB INPUT …`: gathers the commands, one file each, and turns every
failure into one line.
"""

import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from typing import Annotated

import typer

from pauc_hub.cli import (
    assign,
    cluster,
    compare,
    convert,
    dedupe,
    doctor,
    embed,
    evaluate,
    export,
    info,
    models,
    predict,
    probe,
    pull,
    push,
    search,
    train,
    verify,
)
from pauc_hub.cli.failures import INTERRUPTED, explain, notes_printed, say
from pauc_hub.cli.flags import flags_of, with_flags

__all__ = ["app", "main"]

app = typer.Typer(
    name="pauc",
    help="Train image backbones without labels, and embed, search, group and classify images.",
    epilog=(
        "Exit codes: 0 done; 1 failed; 2 wrong usage; 3 done, but some images were unreadable; "
        "130 interrupted."
    ),
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
EMBED = "Embed and search"
UNDERSTAND = "Understand"
EVALUATE = "Evaluate"
TRAIN = "Train"
SHARE = "Share"
app.command(rich_help_panel=EMBED)(embed.embed)
app.command(rich_help_panel=EMBED)(search.search)
app.command(rich_help_panel=UNDERSTAND)(cluster.cluster)
app.command(rich_help_panel=UNDERSTAND)(assign.assign)
app.command(rich_help_panel=UNDERSTAND)(dedupe.dedupe)
app.command(rich_help_panel=EVALUATE)(probe.probe)
app.command(rich_help_panel=EVALUATE)(predict.predict)
app.command("eval", rich_help_panel=EVALUATE)(evaluate.evaluate)
app.command(rich_help_panel=EVALUATE)(compare.compare)
app.command(rich_help_panel=TRAIN)(train.train)
app.command(rich_help_panel=TRAIN)(doctor.doctor)
app.command(rich_help_panel=SHARE)(models.models)
app.command(rich_help_panel=SHARE)(convert.convert)
app.command(rich_help_panel=SHARE)(export.export)
app.command(rich_help_panel=SHARE)(push.push)
app.command(rich_help_panel=SHARE)(pull.pull)
app.command(rich_help_panel=SHARE)(verify.verify)
app.command(rich_help_panel=SHARE)(info.info)


@app.callback(invoke_without_command=True)
def pauc(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    _debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks; accepted anywhere on the line.")
    ] = False,
) -> None:
    if version:
        import pauc_hub

        print(f"pauc-hub {pauc_hub.__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


def main() -> None:
    """The program `pauc`."""
    if isinstance(sys.stdout, TextIOWrapper):
        # names of files may be any bytes; stderr does so by itself
        sys.stdout.reconfigure(errors="backslashreplace")
    # leave nothing half done behind, as after Ctrl-C
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    status, message = _outcome(sys.argv[1:], _heed_no_more_signals)
    say(message)
    sys.exit(status)


def _heed_no_more_signals() -> None:
    """The command has ended anyway; torchrun asks all processes to end once one has failed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def run(arguments: Sequence[str]) -> int:
    """Run one command; the exit code."""
    status, message = _outcome(arguments)
    say(message)
    return status


def _outcome(arguments: Sequence[str], ended: Callable[[], None] = lambda: None) -> tuple[int, str]:
    """Of one command: the exit code, and what went wrong, if anything did.

    Args:
        ended: called as soon as the command is over, before anything is made of how it ended.
    """
    debug = "--debug" in arguments
    with notes_printed(quiet="--quiet" in arguments, others=debug, flags=lambda: _flags(arguments)):
        return _run(arguments, debug, ended)


def _run(arguments: Sequence[str], debug: bool, ended: Callable[[], None]) -> tuple[int, str]:
    try:
        words = [word for word in arguments if word != "--debug"]
        status: int = app(words, prog_name="pauc", standalone_mode=False) or 0
        ended()
        # typer's own answer to Ctrl-C
        return status, "interrupted" if status == INTERRUPTED else ""
    except (Exception, KeyboardInterrupt) as error:
        ended()
        if debug:
            traceback.print_exc()
        message, status = explain(error)
        return status, with_flags(message, _flags(arguments))


def _flags(arguments: Sequence[str]) -> dict[str, str]:
    """Of the command that was called."""
    called = next((word for word in arguments if not word.startswith("-")), "")
    commands = {
        each.name or each.callback.__name__: each.callback
        for each in app.registered_commands
        if each.callback
    }
    return flags_of(commands[called]) if called in commands else {}
