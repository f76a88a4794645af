"""Settings from files and from text, their list, and those that do nothing beside others."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from pauc_hub.errors import UsageError
from pauc_hub.training.config import Config
from pauc_hub.training.settings import (
    all_settings,
    as_text,
    from_mapping,
    read_config,
    read_saved,
    read_value,
    without_effect,
)

IMAGES = 100_000


def test_a_mapping_gives_the_fields_their_types() -> None:
    config = from_mapping(
        {"lr": 1, "clusters": [10, 20], "jitter": [0, 0.5, 1, 0], "symmetric": True}, "here"
    )
    assert config == Config(lr=1.0, clusters=(10, 20), jitter=(0.0, 0.5, 1.0, 0.0), symmetric=True)
    assert isinstance(config.lr, float)
    assert all(isinstance(reach, float) for reach in config.jitter)
    assert from_mapping({}, "here") == Config()


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"epochs": "3"}, "epochs must be a whole number, not '3'"),
        ({"epochs": 3.0}, "epochs must be a whole number, not 3.0"),
        ({"epochs": True}, "epochs must be a whole number, not True"),
        ({"lr": "0.1"}, "lr must be a number, not '0.1'"),
        ({"lr": True}, "lr must be a number, not True"),
        ({"symmetric": 1}, "symmetric must be true or false, not 1"),
        ({"objective": 1}, "objective must be text, not 1"),
        ({"clusters": 250}, "clusters must be a list of whole numbers, not 250"),
        ({"clusters": [2.5]}, "clusters must be a list of whole numbers, not [2.5]"),
        ({"jitter": [0.4, 0.4, 0.4]}, "jitter must be a list of 4 numbers, not [0.4, 0.4, 0.4]"),
        ({"queue": "all"}, "queue must be a whole number, not 'all'"),
        ({"epoch": 3}, "unknown setting 'epoch' (did you mean epochs?)"),
        ({"clustr": 3}, "unknown setting 'clustr' (did you mean clusters or blur?)"),
        ({"proto": 1}, "unknown setting 'proto' (did you mean weight_proto or prototypes_from?)"),
        ({"train": {"epochs": 3}}, "unknown setting 'train'"),
    ],
    ids=str,
)
def test_wrong_types_and_unknown_names_are_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError) as refused:
        from_mapping(given, "run.toml")
    assert (
        str(refused.value)
        == f"run.toml: {problem}. `pauc train --list-settings` shows all settings."
    )


def test_a_number_too_large_for_a_float_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^run\.toml: lr must be a number, not 1000"):
        from_mapping({"lr": 10**400}, "run.toml")


def test_all_wrong_types_are_reported_at_once() -> None:
    with pytest.raises(UsageError) as refused:
        from_mapping({"nope": 1, "epochs": "3", "seed": None}, "the settings")
    assert str(refused.value) == (
        "the settings: unknown setting 'nope'; epochs must be a whole number, not '3'; "
        "seed must be a whole number, not None. `pauc train --list-settings` shows all settings."
    )


def test_a_toml_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('objective = "protonce"\nclusters = [10, 20]\nlr = 1\n')
    assert from_mapping(read_config(path), str(path)) == Config(
        objective="protonce", clusters=(10, 20), lr=1.0
    )


@pytest.mark.parametrize(
    "content", [None, b"epochs 3", b"\xff\xfe"], ids=["absent", "not TOML", "not text"]
)
def test_a_config_file_that_cannot_be_read_is_named_in_one_line(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "run.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        read_config(path)
    assert str(refused.value).startswith(
        (f"config='{path}' cannot be read: ", f"config='{path}' is not TOML (")
    )
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "config", [Config(), Config(clusters=(5, 9), lr=1.0, symmetric=True).resolve(IMAGES)]
)
def test_a_config_survives_its_file(tmp_path: Path, config: Config) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config.to_json()))
    assert read_saved(path) == config


@pytest.mark.parametrize(
    "content", ['{"epochs": 3', "[]", '{"epochs": "3"}'], ids=["cut", "a list", "a wrong type"]
)
def test_a_damaged_saved_config_is_named_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"config\.json") as refused:
        read_saved(path)
    assert "\n" not in str(refused.value)


# --- from text


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("temperature", "0.1", 0.1),
        ("lr", "1e-3", 0.001),
        ("weight_align", "1", 1.0),
        ("epochs", "300", 300),
        ("symmetric", "true", True),
        ("symmetric", "False", False),
        ("objective", "infonce", "infonce"),
        ("clusters", "250", [250]),
        ("clusters", "250,500", [250, 500]),
        ("jitter", "[0.4, 0.4, 0.2, 0]", [0.4, 0.4, 0.2, 0.0]),
        ("queue", "4096", 4096),
        ("labelled", "7", "7"),
    ],
)
def test_text_is_read_as_the_settings_kind(name: str, text: str, value: object) -> None:
    assert read_value(name, text) == value
    assert type(read_value(name, text)) is type(value)
    assert getattr(from_mapping({name: read_value(name, text)}, "here"), name) == (
        tuple(value) if isinstance(value, list) else value
    )


@pytest.mark.parametrize("name", ["epochs", "lr", "symmetric", "clusters", "jitter"])
def test_text_of_another_kind_stays_and_is_refused(name: str) -> None:
    assert read_value(name, "much") == "much"
    with pytest.raises(UsageError, match=f"here: {name} must be a?.*, not 'much'"):
        from_mapping({name: "much"}, "here")


def test_a_value_is_shown_as_it_is_typed() -> None:
    config = Config(clusters=(250, 500))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value is not None:
            assert from_mapping(
                {field.name: read_value(field.name, as_text(value))}, "x"
            ) == Config(**{field.name: value})


# --- the list


def test_every_setting_is_listed_with_kind_default_unit_and_meaning() -> None:
    listed = {setting.name: setting for setting in all_settings()}
    assert list(listed) == [field.name for field in dataclasses.fields(Config)]
    assert all(
        setting.meaning.endswith(".") and len(setting.meaning) > 8 for setting in listed.values()
    )
    assert listed["size"][1:4] == ("whole number", "224", "pixels")
    assert listed["clusters"][1:4] == ("list of whole numbers", "derived", "")
    assert listed["jitter"][1:3] == ("list of 4 numbers", "0.4,0.4,0.4,0.1")
    assert listed["symmetric"][1:3] == ("true or false", "false")


# --- without effect


@pytest.mark.parametrize(
    ("settings", "idle"),
    [
        (
            {"objective": "protonce", "weight_align": 0.5, "ramp": 0.1},
            [
                "ramp=0.1 has no effect with objective=protonce",
                "weight_align=0.5 has no effect with objective=protonce",
            ],
        ),
        ({"objective": "protonce", "negatives": 100, "clusters": (5, 9), "warmup": 0.2}, []),
        (
            {"objective": "infonce", "clusters": (5, 9)},
            [
                (
                    "clusters=5,9 has no effect on what is learnt with objective=infonce, which "
                    "clusters once, at the end"
                )
            ],
        ),
        (
            {
                "objective": "protonce",
                "weight_scatter": 0.5,
                "prototypes_from": "bank",
                "shuffle_assignments": True,
            },
            [
                "weight_scatter=0.5 has no effect with objective=protonce",
                "prototypes_from=bank has no effect with objective=protonce",
            ],
        ),
        (
            {"objective": "infonce", "warmup": 0.2},
            ["warmup=0.2 has no effect with objective=infonce"],
        ),
        (
            {"objective": "infonce", "shuffle_assignments": True},
            ["shuffle_assignments=true has no effect with objective=infonce"],
        ),
        (
            {
                "objective": "protonce",
                "prototypes_from": "bank",
                "weight_scatter": 0.1,
                "shuffle_assignments": True,
            },
            [
                "weight_scatter=0.1 has no effect with objective=protonce",
                "prototypes_from=bank has no effect with objective=protonce",
            ],
        ),
        ({"negatives": 100}, ["negatives=100 has no effect with weight_proto=0"]),
        ({"negatives": 100, "weight_proto": 0.1}, []),
        (
            {"weight_corr": 0.0, "correlation_lambda": 2.0},
            ["correlation_lambda=2 has no effect with weight_corr=0"],
        ),
        (
            {"progressive_share": 0.3},
            ["progressive_share=0.3 has no effect without progressive_sizes"],
        ),
        ({"small_view_size": 40}, ["small_view_size=40 has no effect with small_views=0"]),
        ({"small_view_size": 40, "small_views": 2}, []),
        ({"jitter": (0.0, 0.0, 0.0, 0.0), "grey": 0.1}, []),
        (
            {"jitter_probability": 0.0, "jitter": (0.1, 0.1, 0.1, 0.1)},
            ["jitter=0.1,0.1,0.1,0.1 has no effect with jitter_probability=0"],
        ),
        ({"temperature": 0.1, "weight_align": 0.1}, []),
    ],
)
def test_what_has_no_effect_is_named_with_the_reason(
    settings: dict[str, Any], idle: list[str]
) -> None:
    assert without_effect(Config(**settings), settings) == idle


def test_what_nobody_wrote_down_is_not_named() -> None:
    assert without_effect(Config(objective="infonce"), ["objective"]) == []
