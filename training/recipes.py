"""Recipes: named settings, a TOML file each in recipes/; and what a run is trained with, from all who have a say."""

import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pauc_hub.errors import UsageError
from pauc_hub.training.auto import Choice, choose, usual_side
from pauc_hub.training.config import Config, from_mapping
from pauc_hub.training.data import ImageSource

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
    source: ImageSource, device: str, given: Mapping[str, Any], recipe: str = OWN_IMAGES, named: str = "the settings"
) -> tuple[Config, list[Choice]]:
    """The settings of a run: what is given, else the recipe's, else the defaults; all checked.

    Args:
        device: `cpu`, or else a kind of GPU.
        given: settings by name.
        named: where they come from, for complaints.

    Returns:
        the settings, and those that were chosen, each with its reason.

    Raises:
        UsageError: unknown names, wrong values, no such recipe.
    """
    written = read_recipe(recipe)
    from_mapping(dict(given), named)  # complains of all that is given before any image is looked at
    choices = choose(len(source), usual_side(source), device) if recipe == OWN_IMAGES else []
    choices = [choice for choice in choices if choice.name not in given]
    chosen = {choice.name: choice.value for choice in choices}
    config = from_mapping(chosen | written | dict(given), named).resolve(len(source))
    return config, choices
