"""Settings as people write and read them: from TOML, JSON and the command line; listed; named where
they do nothing.
"""

import ast
import dataclasses
import difflib
import inspect
import json
import tomllib
import types
import typing
from collections.abc import Collection, Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from pauc_hub.errors import UsageError
from pauc_hub.training import config as module
from pauc_hub.training.config import Config

SETTING_TYPES = {
    field.name: typing.get_type_hints(Config)[field.name] for field in dataclasses.fields(Config)
}
NEAREST = 3  # names that are offered in place of one that is unknown
DERIVED = "derived"  # in place of a default that follows from the images or from other settings


# --- reading


def from_mapping(given: Mapping[str, Any], source: str) -> Config:
    """A config from parsed TOML or JSON; what is not given keeps its default.

    Raises:
        UsageError: unknown names or values of another type, all in one line that names `source`.
    """
    problems = [_unknown(name) for name in given if name not in SETTING_TYPES]
    values = {}
    for name, value in given.items():
        if name in SETTING_TYPES:
            try:
                values[name] = _coerce(value, SETTING_TYPES[name])
            except (TypeError, OverflowError):
                problems.append(f"{name} must be {_described(SETTING_TYPES[name])}, not {value!r}")
    if problems:
        raise UsageError(
            f"{source}: {'; '.join(problems)}. `pauc train --list-settings` shows all settings."
        )
    return Config(**values)


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a TOML file.

    Raises:
        UsageError: no such file, or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            f"config='{path}' is not TOML ({error}). Write a setting a line, such as lr = 0.03; "
            "JSON is not read."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"config='{path}' cannot be read: {error}.") from error


def read_saved(path: Path) -> Config:
    """The config of a run, as `to_json` wrote it.

    Raises:
        UsageError: it cannot be read, or is none.
    """
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"'{path}' cannot be read: {error}. Start anew with overwrite=True."
        ) from error
    if not isinstance(saved, dict):
        raise UsageError(f"'{path}' holds no settings. Start anew with overwrite=True.")
    # runs of versions that kept no images out go on with all of theirs
    return from_mapping({"kept_out": 0.0} | saved, str(path))


# a list without items, as it is typed
NONE = "[]"


def read_value(name: str, text: str) -> Any:
    """The value of a setting from text, a list's items between commas.

    What cannot be read as the setting's kind stays text, which `from_mapping` then refuses.
    """
    kind = _kind_given(SETTING_TYPES.get(name, str))
    with suppress(ValueError, KeyError):
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if typing.get_origin(kind) is tuple:
            item = typing.get_args(kind)[0]
            if text == NONE:
                return []
            return [item(part) for part in text.removeprefix("[").removesuffix("]").split(",")]
        return kind(text)
    return text


def as_text(value: Any) -> str:
    """A value as it is typed: `0.06`, `true`, `250,500,1000`."""
    match value:
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case list() | tuple():
            return ",".join(map(as_text, value)) or NONE
    return str(value)


def _unknown(name: str) -> str:
    near = (
        difflib.get_close_matches(name, SETTING_TYPES, NEAREST)
        or [known for known in SETTING_TYPES if name in known][:NEAREST]
    )
    hint = f" (did you mean {' or '.join(near)}?)" if near else ""
    return f"unknown setting '{name}'{hint}"


def _coerce(value: Any, kind: Any) -> Any:
    """The value as the field's type: integers pass for floats, lists for tuples; nothing else is
    bent.
    """
    if value is None and isinstance(kind, types.UnionType):
        return None
    kind = _kind_given(kind)
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        count = len(typing.get_args(kind))
        if not isinstance(value, list | tuple) or (
            Ellipsis not in typing.get_args(kind) and len(value) != count
        ):
            raise TypeError
        return tuple(_coerce(each, item) for each in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise TypeError
    return value


def _kind_given(kind: Any) -> Any:
    """Of a value that is not None."""
    return typing.get_args(kind)[0] if isinstance(kind, types.UnionType) else kind


def _described(kind: Any) -> str:
    """What a value of this type is, in words."""
    kind = _kind_given(kind)
    if typing.get_origin(kind) is tuple:
        item, *others = typing.get_args(kind)
        count = "" if Ellipsis in others else f"{1 + len(others)} "
        return f"a list of {count}{'whole ' * (item is int)}numbers"
    return {int: "a whole number", float: "a number", str: "text", bool: "true or false"}[kind]


# --- listing


class Setting(NamedTuple):
    """One field of Config.

    Attributes:
        kind: what its values are.
        default: as it would be typed.
        unit: empty where it has none.
    """

    name: str
    kind: str
    default: str
    unit: str
    meaning: str


def all_settings() -> list[Setting]:
    """Every setting, in the order of Config; what is said of each is the string under its field,
    `Meaning [unit].`
    """
    said, found = _docstrings(), []
    for field in dataclasses.fields(Config):
        meaning, _, unit = said[field.name].removesuffix(".").partition(" [")
        default = DERIVED if field.default is None else as_text(field.default)
        kind = _described(SETTING_TYPES[field.name]).removeprefix("a ")
        found.append(Setting(field.name, kind, default, unit.removesuffix("]"), f"{meaning}."))
    return found


def _docstrings() -> dict[str, str]:
    """The string under each field."""
    tree = ast.parse(inspect.getsource(module))
    [body] = [
        node.body
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == Config.__name__
    ]
    found = {}
    for field, text in pairwise(body):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(
                value=ast.Constant(value=str(meaning))
            ):
                # wrapped in the file, one line where it is shown
                found[name] = " ".join(meaning.split())
    return found


# --- settings that do nothing

TERM_WEIGHTS = ("weight_proto", "weight_align", "weight_unif", "weight_corr", "weight_scatter")
OF_PAUC = ("ramp", *TERM_WEIGHTS, "prototypes_from", "correlation_lambda")
OF_PROTOTYPES = ("negatives", "warmup", "shuffle_assignments")
OF_CLUSTERING = ("clusters", "kmeans", "kmeans_iterations", "kmeans_restarts")


def without_effect(config: Config, given: Collection[str]) -> list[str]:
    """What changes nothing beside the other settings, though somebody wrote it down; a line each,
    with the reason.

    Args:
        given: names of the settings that were written down.
    """
    reasons = (
        _idle_in_the_objective(config) | _idle_in_the_views(config) | _idle_in_the_network(config)
    )
    return [
        f"{name}={as_text(getattr(config, name))} has no effect {reasons[name]}"
        for name in SETTING_TYPES
        if name in given and name in reasons
    ]


def _idle_in_the_objective(config: Config) -> dict[str, str]:
    chosen = f"with objective={config.objective}"
    if config.objective == "infonce":
        last = f"on what is learnt {chosen}, which clusters once, at the end"
        return dict.fromkeys((*OF_PROTOTYPES, *OF_PAUC), chosen) | dict.fromkeys(
            OF_CLUSTERING, last
        )
    if config.objective == "protonce":
        return dict.fromkeys(OF_PAUC, chosen)
    idle = {}
    if not config.weight_proto:
        idle["negatives"] = "with weight_proto=0"
    if not config.weight_corr:
        idle["correlation_lambda"] = "with weight_corr=0"
    if not any(getattr(config, name) for name in TERM_WEIGHTS):
        idle["ramp"] = f"with {', '.join(f'{name}=0' for name in TERM_WEIGHTS)}"
    return idle


def _idle_in_the_network(config: Config) -> dict[str, str]:
    if config.weights_from:
        return {"norm_group": "with weights_from, whose statistics are kept"}
    idle = dict.fromkeys(
        ("freeze", "projector_share", "backbone_rate", "layer_decay"), "without weights_from"
    )
    if not config.has_batch_norm:
        idle["norm_group"] = f"with architecture={config.architecture}, which has no batch norm"
    return idle


def _idle_in_the_views(config: Config) -> dict[str, str]:
    idle = {}
    if not config.jitter_probability:
        idle["jitter"] = "with jitter_probability=0"
    if not any(config.jitter):
        idle["jitter_probability"] = f"with jitter={as_text(config.jitter)}"
    if not config.blur:
        idle["blur_sigma"] = "with blur=0"
    if not config.progressive_sizes:
        idle["progressive_share"] = "without progressive_sizes"
    if not config.small_views:
        idle |= dict.fromkeys(("small_view_size", "small_view_crop"), "with small_views=0")
    return idle
