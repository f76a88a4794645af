"""The settings of a run on the command line: listed, as they are typed, and as they were chosen."""

import sys
from typing import TYPE_CHECKING

import typer

from pauc_hub.errors import UsageError

if TYPE_CHECKING:  # they take seconds to import
    from pauc_hub.training.auto import Choice
    from pauc_hub.training.config import Config


def list_settings(wanted: bool) -> None:
    """To stdout: every setting of a run."""
    if not wanted:
        return
    from pauc_hub.training.settings import all_settings

    print(
        "# NAME = DEFAULT  [KIND, UNIT]; recipes have defaults of their own. Give one with "
        "--set NAME=VALUE."
    )
    for setting in all_settings():
        kind = f"{setting.kind}, {setting.unit}" if setting.unit else setting.kind
        print(f"{setting.name} = {setting.default}  [{kind}]\n    {setting.meaning}")
    raise typer.Exit


def typed_settings(typed: dict[str, object], chosen: list[str]) -> dict[str, object]:
    """The settings that were typed, by options and by --set.

    Args:
        typed: by options; None where an option was left out.
        chosen: what followed each --set.

    Raises:
        UsageError: a setting is given twice, or --set is not followed by NAME=VALUE.
    """
    given = {name: value for name, value in typed.items() if value is not None}
    for text in chosen:
        from pauc_hub.training.settings import read_value

        name, _, value = (part.strip() for part in text.partition("="))
        if not name or not value:
            raise UsageError(f"--set '{text}' is not NAME=VALUE, such as --set temperature=0.1.")
        if name in given:
            raise UsageError(f"{name} is given twice. Give it once, by --set or as an option.")
        given[name] = read_value(name, value)
    return given


def show_settings(config: "Config", choices: "list[Choice]", images: int) -> None:
    """To stderr: what nobody wrote down, each with its reason; and what becomes of a learning rate
    that was given.
    """
    from pauc_hub.training.auto import scaling

    head = f"{images} images; chosen for them and this machine, where nothing else was asked for:"
    lines = [f"{choice.name} {choice.value}  ({choice.reason})" for choice in choices]
    print("\n  ".join([head, *lines]), file=sys.stderr)
    if all(choice.name != "lr" for choice in choices):
        print(f"lr {config.lr:g}  ({scaling(config)})", file=sys.stderr)


def told_kept_out(config: "Config", images: int) -> str:
    """A line on the images that are kept out of training; empty where none were asked for."""
    from pauc_hub.training.derived import FEWEST_KEPT_OUT, images_kept_out

    if not config.kept_out:
        return ""
    if count := images_kept_out(images, config.kept_out):
        return f"{count} images are kept out of training, to calibrate the model's prototypes on\n"
    return (
        f"the model's prototypes will be uncalibrated: {config.kept_out:.3g} of {images} images "
        f"is less than the {FEWEST_KEPT_OUT} that calibration needs (--set kept_out=SHARE)\n"
    )
