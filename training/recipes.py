"""Recipes: named settings, a TOML file each in recipes/; and what a run is trained with, from all
who have a say.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pauc_hub.device import PRECISIONS, choose_precision
from pauc_hub.errors import UsageError
from pauc_hub.sources.by_index import ImageSource
from pauc_hub.suggestion import did_you_mean
from pauc_hub.training.auto import Choice, Facts, choose, choose_optimiser, consequences, usual_side
from pauc_hub.training.config import Config
from pauc_hub.training.from_weights import choose_from_weights
from pauc_hub.training.machine import machine_of
from pauc_hub.training.networks.backbone import has_batch_norm
from pauc_hub.training.networks.pace import images_per_second
from pauc_hub.training.settings import from_mapping, read_config

FOLDER = Path(__file__).parent / "recipes"
OWN_IMAGES = "own_images"  # chooses by the images and the machine
OF_THE_OPTIMISER = ("optimiser", "lr", "weight_decay")


def recipe_names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read_recipe(name: str) -> dict[str, Any]:
    """The settings of a recipe.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in recipe_names():
        hint = did_you_mean(name, recipe_names())
        raise UsageError(f"unknown recipe '{name}'.{hint} There are {', '.join(recipe_names())}.")
    return tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))


def settle(
    source: ImageSource,
    device: torch.device,
    given: Mapping[str, Any],
    recipe: str = OWN_IMAGES,
    named: str = "the settings",
    *,
    quiet: bool = False,
) -> tuple[Config, list[Choice]]:
    """The settings of a run: what is given, else the recipe's, else what is chosen, else the
    defaults; all checked.

    Args:
        given: settings by name.
        named: where they come from, for complaints.
        quiet: no progress bar while weights are fetched.

    Returns:
        the settings, resolved, and those that nobody wrote down, each with its reason.

    Raises:
        UsageError: unknown names, wrong values, no such recipe.
    """
    from_mapping(dict(given), named)  # complains of all that is given before any image is looked at
    choices, stands = [], dict(given)
    if given.get("weights_from"):
        choices = choose_from_weights(given, len(source), quiet=quiet)
        stands |= {choice.name: choice.value for choice in choices}
    written = _suiting_the_network(read_recipe(recipe), stands) | stands
    asked = from_mapping(written, named)
    if recipe == OWN_IMAGES:
        # a wrong one is refused with all other problems, below
        dtype = choose_precision(
            asked.precision if asked.precision in PRECISIONS else "auto", device
        )
        facts = Facts(
            len(source),
            usual_side(source),
            machine_of(device),
            lambda architecture, size: images_per_second(architecture, size, device, dtype),
        )
        choices += choose(facts, written)
    else:
        choices += choose_optimiser(asked.architecture, asked.size, written)
    chosen = {choice.name: choice.value for choice in choices}
    config = from_mapping(written | chosen, named).resolve(len(source))
    # the rate is told with what the batch makes of it
    told = [choice for choice in choices if choice.name != "lr"]
    return config, told + consequences(config, written)


def read_settings(
    config: Config | str | Path | None,
    given: Mapping[str, Any],
    source: ImageSource,
    device: torch.device,
    recipe: str = OWN_IMAGES,
) -> tuple[Config, list[Choice]]:
    """What a program asked for, and what was chosen for it; of a whole Config nothing is.

    Args:
        config: a whole one, or a TOML file of settings.
        given: settings by name, which stand before those of `config`.

    Raises:
        UsageError: as settle() does; or a recipe beside a whole config.
    """
    plain = {
        name: str(value) if isinstance(value, Path) else value for name, value in given.items()
    }
    if isinstance(config, Config):
        if recipe != OWN_IMAGES:
            raise UsageError(
                f"recipe='{recipe}' has no say beside a whole TrainConfig: give one of them."
            )
        return from_mapping(config.to_json() | plain, "the settings"), []
    written = read_config(Path(config)) if config is not None else {}
    return settle(source, device, written | plain, recipe, str(config or "the settings"))


def _suiting_the_network(recipe: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe without its optimiser, where another network was asked for that does not learn by
    it.
    """
    architecture = given.get("architecture")
    size = given.get("size", recipe.get("size", Config.size))
    if (
        not isinstance(architecture, str)
        or not isinstance(size, int)
        or has_batch_norm(architecture, size)
    ):
        return recipe
    return {name: value for name, value in recipe.items() if name not in OF_THE_OPTIMISER}
