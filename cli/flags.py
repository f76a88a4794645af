"""Parameters of the library as they are typed: a message that says `lr=100` is shown with `--lr
100`.
"""

import inspect
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from typing import Any

from typer.models import OptionInfo

SET = "--set"  # gives any setting of training
# A value ends where a sentence goes on; in quotes it may hold anything.
GIVEN = re.compile(rf"(?<!{SET} )\b([a-z_]+)=('[^']*'|[^\s;:()'`=]*[^\s;:()'`=,.])")


def flags_of(command: Callable[..., Any]) -> dict[str, str]:
    """The options of a command: parameter to flag, the long one where there are two."""
    found = {}
    for name, parameter in inspect.signature(command).parameters.items():
        for option in getattr(parameter.annotation, "__metadata__", ()):
            if isinstance(option, OptionInfo):
                # Beside a type, typer keeps the first name where a default would stand.
                named = [
                    each
                    for each in (option.default, *(option.param_decls or ()))
                    if isinstance(each, str)
                ]
                found[name] = max(named or [f"--{name.replace('_', '-')}"], key=len)
    return found


def with_flags(message: str, flags: Mapping[str, str]) -> str:
    """The message with every `parameter=value` as an option; settings of a run that have none are
    given by --set.

    Args:
        flags: of the command, parameter to flag; other words are left alone.
    """

    def typed(found: re.Match[str]) -> str:
        name, value = found[1], found[2].strip("'")
        if name in flags:
            return flags[name] if value == "True" else f"{flags[name]} {shlex.quote(value)}"
        return (
            f"{SET} {name}={shlex.quote(value)}"
            if SET in flags.values() and _is_setting(name)
            else found[0]
        )

    return GIVEN.sub(typed, message)


def _is_setting(name: str) -> bool:
    """Of training; only where that has been imported, since nobody else speaks of settings."""
    config = sys.modules.get("pauc_hub.training.config")
    return config is not None and name in config.Config.__dataclass_fields__
