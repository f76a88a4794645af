"""Recipes: named settings, a TOML file each in recipes/; and what a run is trained with, from all who have a say."""

import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from pauc_hub.errors import UsageError
from pauc_hub.training.auto import Choice, Facts, choose, consequences, usual_side
from pauc_hub.training.config import Config
from pauc_hub.training.data import ImageSource
from pauc_hub.training.machine import machine_of
from pauc_hub.training.settings import from_mapping

FOLDER = Path(__file__).parent / "recipes"
OWN_IMAGES = "own_images"  # chooses by the images and the machine


def recipe_names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read_recipe(name: str) -> dict[str, Any]:
    """The settings of a recipe.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in recipe_names():
        near = get_close_matches(name, recipe_names(), 1)
        hint = f"Did you mean '{near[0]}'? " if near else ""
        raise UsageError(f"unknown recipe '{name}'. {hint}There are {', '.join(recipe_names())}.")
    return tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))


def settle(
    source: ImageSource,
    device: torch.device,
    given: Mapping[str, Any],
    recipe: str = OWN_IMAGES,
    named: str = "the settings",
) -> tuple[Config, list[Choice]]:
    """The settings of a run: what is given, else the recipe's, else what is chosen, else the defaults; all checked.

    Args:
        given: settings by name.
        named: where they come from, for complaints.

    Returns:
        the settings, resolved, and those that nobody wrote down, each with its reason.

    Raises:
        UsageError: unknown names, wrong values, no such recipe.
    """
    written = read_recipe(recipe) | dict(given)
    asked = from_mapping(written, named)  # complains of all that is given before any image is looked at
    if recipe != OWN_IMAGES:
        config = asked.resolve(len(source))
        return config, consequences(config, written)
    choices = choose(Facts(len(source), usual_side(source), machine_of(device)), written)
    chosen = {choice.name: choice.value for choice in choices}
    config = from_mapping(chosen | written, named).resolve(len(source))
    return config, choices + consequences(config, written)
