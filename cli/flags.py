"""Parameters of the library as they are typed: a message that says `lr=100` is shown with `--lr 100`."""

import re
import shlex
import sys

# Parameters of pauc_hub's functions, and settings, that have an option of their own name.
OPTIONS = frozenset(
    {
        "architecture",
        "batch_size",
        "clusters",
        "config",
        "device",
        "epochs",
        "label_column",
        "labelled",
        "labels",
        "lr",
        "objective",
        "overwrite",
        "output",
        "precision",
        "protocol",
        "quiet",
        "recipe",
        "resume",
        "seed",
        "size",
        "wandb",
        "workers",
    }
)
# A value ends where a sentence goes on; in quotes it may hold anything.
GIVEN = re.compile(r"(?<!--set )\b([a-z_]+)=('[^']*'|[^\s;:()'`]*[^\s;:()'`,.])")


def as_typed(message: str) -> str:
    """The message with every `parameter=value` as an option; all other settings of a run are given by --set."""
    return GIVEN.sub(_typed, message)


def _typed(found: re.Match[str]) -> str:
    name, value = found[1], found[2].strip("'")
    if name in OPTIONS:
        option = f"--{name.replace('_', '-')}"
        return option if value == "True" else f"{option} {shlex.quote(value)}"
    return f"--set {name}={shlex.quote(value)}" if _is_setting(name) else found[0]


def _is_setting(name: str) -> bool:
    """Of training; only where that has been imported, since nobody else speaks of settings."""
    config = sys.modules.get("pauc_hub.training.config")
    return config is not None and name in config.Config.__dataclass_fields__
