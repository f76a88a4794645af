"""Settings for a run that starts from existing weights, each with its reason (method.md §5)."""

from collections.abc import Mapping
from typing import Any

from pauc_hub.errors import UsageError
from pauc_hub.images.preprocessing import Preprocessing
from pauc_hub.models.bundled import bundled_folder
from pauc_hub.models.folder import ModelFolder
from pauc_hub.models.opening import open_model
from pauc_hub.training.auto import Choice
from pauc_hub.training.config import Config
from pauc_hub.training.networks.backbone import fitting_side
from pauc_hub.training.networks.pretrained import block_count, default_freeze

# pixels: what most networks are compared at; some have 518, which takes five times as long
LARGEST_SIZE = 224
FEW = 10_000  # images, below which prototypes of many images each spoil what the weights tell apart
EPOCHS = 20  # weights that were good before need few


def choose_from_weights(
    given: Mapping[str, Any], images: int, *, quiet: bool = False
) -> list[Choice]:
    """What follows from the model that the run starts from.

    Args:
        given: settings by name, `weights_from` among them.
        images: how many there are.

    Raises:
        UsageError: another architecture is asked for.
        PaucError: the model cannot be had.
    """
    folder = open_model(str(given["weights_from"]), quiet=quiet)
    architecture = folder.architecture
    if given.get("architecture", architecture) != architecture:
        raise UsageError(
            f"architecture='{given['architecture']}' is not that of "
            f"weights_from='{folder.name}', which is a "
            f"{architecture}: leave it out."
        )
    shown = Preprocessing.from_config(folder.preprocessing_config)
    size = given.get("size", fitting_side(architecture, min(folder.image_size, LARGEST_SIZE)))
    choices = [
        Choice("weights_from", _lasting_name(folder), "as asked for"),
        Choice("architecture", architecture, f"that of {folder.name}"),
        Choice("size", size, f"pixels; what it was trained with, {LARGEST_SIZE} at most"),
        Choice("mean", list(shown.mean), "what its input is normalised by"),
        Choice("std", list(shown.std), "what its input is normalised by"),
        Choice("epochs", EPOCHS, "weights that are good already need few"),
        *_objective(images),
        *_rates(architecture, size, folder, given),
    ]
    return [
        choice for choice in choices if choice.name not in given or choice.name == "weights_from"
    ]


def _lasting_name(folder: ModelFolder) -> str:
    """That of the model wherever the run goes on from."""
    if folder.given_name:
        return folder.given_name
    bundled = bundled_folder(folder.path.name)
    return folder.path.name if bundled == folder.path else str(folder.path.absolute())


def _objective(images: int) -> list[Choice]:
    if images >= FEW:
        return []
    reason = (
        f"with less than {FEW:,} images, prototypes of many images each spoil what the weights "
        "tell apart"
    )
    return [Choice("objective", "infonce", reason)]


def _rates(
    architecture: str, size: int, folder: ModelFolder, given: Mapping[str, Any]
) -> list[Choice]:
    count = block_count(architecture, size)
    freeze = given.get("freeze", default_freeze(architecture, size))
    rate = given.get("backbone_rate", Config.backbone_rate)
    decay = given.get("layer_decay", Config.layer_decay)
    slowest = rate * decay ** (count - freeze - 1) if 0 <= freeze < count else rate
    return [
        Choice(
            "freeze",
            freeze,
            f"of {count} stages or blocks the first {freeze} keep the weights of {folder.name}",
        ),
        Choice(
            "projector_share",
            Config.projector_share,
            "of the epochs the new projector learns alone: "
            "to train all at once destroys what the weights know",
        ),
        Choice(
            "backbone_rate",
            rate,
            f"the rate of the blocks that learn is {slowest:.2g} to {rate:g} of lr",
        ),
    ]
