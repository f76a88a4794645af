"""Settings for somebody's own images, from their number, their size and the machine; each with its
reason.
"""

import math
import statistics
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pauc_hub.errors import UsageError
from pauc_hub.images.jpeg import size_of
from pauc_hub.sources.by_index import ImageSource
from pauc_hub.training.config import Config
from pauc_hub.training.config_limits import SMALLEST_GROUP
from pauc_hub.training.derived import LARGEST_QUEUE
from pauc_hub.training.machine import Machine
from pauc_hub.training.networks.backbone import fitting_side, has_batch_norm, inspect_backbone

DEEP = 200_000  # images from which on a ResNet-50 is worth its cost, on a GPU
STEP = 32  # pixels that the sides of views are multiples of: a ResNet halves its input five times
LARGEST_VIEWS = {True: 224, False: 64}  # pixels, with a GPU and without
SMALL_VIEWS = 32  # pixels, of which the usual stem leaves 8 x 8, and the last stage 1 x 1
LARGEST_BATCH, SMALLEST_BATCH = 256, 2 * SMALLEST_GROUP
BATCHES = 16  # an epoch, at least
HOURS = 3  # that a run takes, within the bounds below
FEWEST_EPOCHS, MOST_EPOCHS = {True: 100, False: 10}, {True: 800, False: 200}
# what a step keeps over what timm's network does, counted on ResNets (docs/LOG.md)
BEYOND_THE_NETWORK = 1.4
# of the memory; images that lie there (a quarter: resident.py), keys, weights and the rest share it
FOR_A_BATCH = 0.5
LR_WITHOUT_BATCH_NORM = 5e-4  # of AdamW for a batch of 256; Caron et al. 2021 (DINO), section 3.2
DECAY_WITHOUT_BATCH_NORM = 0.1  # Chen, Xie & He 2021 (MoCo v3), section 4
LOOKED_AT = 64  # images at most, whose size is read


class Choice(NamedTuple):
    """One setting, and why."""

    name: str
    value: Any
    reason: str


class Facts(NamedTuple):
    """What the choices follow from.

    Attributes:
        images: how many there are.
        side: usual length of their shorter sides, pixels.
        images_per_second: of a network, by its name, that learns from views of so many pixels.
    """

    images: int
    side: int
    machine: Machine
    images_per_second: Callable[[str, int], float]


def choose(facts: Facts, given: Mapping[str, Any]) -> list[Choice]:
    """What to train with where nothing else is asked for; Config.resolve() chooses clusters and
    queue.

    Args:
        given: settings by name that stand, and that the choices agree with.
    """
    settled, choices = dict(given), []
    rules = {
        "size": _size,
        "architecture": _architecture,
        "batch_size": _batch_size,
        "norm_group": _norm_group,
        "epochs": _epochs,
    }
    for name, rule in rules.items():
        choice = None if name in settled else rule(facts, settled)
        if choice is not None:
            settled[name] = choice.value
            choices.append(choice)
    return [*choices, *choose_optimiser(settled["architecture"], settled["size"], settled)]


def choose_optimiser(architecture: str, size: int, given: Mapping[str, Any]) -> list[Choice]:
    """Where the defaults, which are a ResNet's, do not suit the network: those without batch norm,
    such as ViTs.

    Args:
        given: settings by name that stand.
    """
    if has_batch_norm(architecture, size):
        return []
    reason = f"{architecture} has no batch norm, and such networks learn badly by SGD"
    choices = [Choice("optimiser", "adamw", reason)]
    if given.get("optimiser", "adamw") == "adamw":
        choices += [
            Choice("lr", LR_WITHOUT_BATCH_NORM, "that of DINO"),
            Choice("weight_decay", DECAY_WITHOUT_BATCH_NORM, "that of MoCo v3 for ViTs"),
        ]
    return [choice for choice in choices if choice.name not in given]


def consequences(config: Config, given: Mapping[str, Any]) -> list[Choice]:
    """What Config.resolve() made of it, for people to read.

    Args:
        config: resolved.
        given: settings by name that somebody wrote down.
    """
    found = [
        Choice(
            "clusters",
            list(config.clusters or ()),
            "one for 50, 25 and 12.5 images, or for 10 at least",
        ),
        Choice(
            "queue", config.queue, f"whole batches: half of the images, {LARGEST_QUEUE:,} at most"
        ),
        Choice("lr", config.lr, scaling(config)),
    ]
    return [choice for choice in found if given.get(choice.name) is None]


def scaling(config: Config) -> str:
    """What becomes of the learning rate with the batch, for people to read."""
    how = "by its square root" if config.optimiser == "adamw" else "in proportion"
    return f"for a batch of 256, and {how}: {config.peak_lr:g} for {config.batch_size}"


def usual_side(source: ImageSource) -> int:
    """Median of the shorter sides of some images, spread evenly over the source; 224 where none can
    be read.
    """
    indices = range(0, len(source), math.ceil(len(source) / LOOKED_AT))
    pictures = (source.read(index) for index in indices)
    sides = [min(size_of(picture)) for picture in pictures if picture is not None]
    return round(statistics.median(sides)) if sides else LARGEST_VIEWS[True]


def _architecture(facts: Facts, settled: Mapping[str, Any]) -> Choice:
    gpu = facts.machine.gpu
    network = "resnet50" if gpu and facts.images >= DEEP else "resnet18"
    here = f"here are {_place(facts)} and {facts.images:,}"
    reason = f"a resnet50 pays off with a GPU and {DEEP:,} images or more; {here}"
    if gpu and settled["size"] <= SMALL_VIEWS:  # without one, 15 times the work is too much
        network = f"pauc_{network}_cifar"
        reason = f"{reason}; the usual stem leaves too little of views so small"
    return Choice("architecture", network, reason)


def _size(facts: Facts, settled: Mapping[str, Any]) -> Choice:
    largest = LARGEST_VIEWS[facts.machine.gpu]
    size = min(largest, max(STEP, facts.side // STEP * STEP))
    if "architecture" in settled:
        size = fitting_side(settled["architecture"], size)
    limit = (
        f"{largest} is the most"
        if facts.machine.gpu
        else f"a CPU takes too long over more than {largest}"
    )
    return Choice(
        "size", size, f"pixels; the images' shorter sides have about {facts.side}, and {limit}"
    )


def _batch_size(facts: Facts, settled: Mapping[str, Any]) -> Choice:
    small_views = settled.get("small_views", 0)
    halved = 1 if facts.machine.wide else 2
    a_batch = _kept(settled) * BEYOND_THE_NETWORK / halved * (1 + small_views / 4)
    fitting = (
        int(facts.machine.memory * FOR_A_BATCH / max(a_batch, 1)) // SMALLEST_GROUP * SMALLEST_GROUP
    )
    wanted = min(LARGEST_BATCH, facts.images // BATCHES // SMALLEST_GROUP * SMALLEST_GROUP)
    reason = f"{BATCHES} batches an epoch or more, of {SMALLEST_BATCH} to {LARGEST_BATCH} images"
    if fitting < wanted:
        reason = (
            f"what the {facts.machine.memory / 2**30:.0f} GiB of {_place(facts)} hold; "
            f"{SMALLEST_BATCH} at least"
        )
    return Choice(
        "batch_size", max(2, min(facts.images, max(SMALLEST_BATCH, min(wanted, fitting)))), reason
    )


def _kept(settled: Mapping[str, Any]) -> int:
    """Bytes for the gradient of an image, in fp32; 0 where the network cannot be built, which
    others refuse.
    """
    try:
        return inspect_backbone(settled["architecture"], settled["size"]).kept
    except UsageError:
        return 0


def _norm_group(facts: Facts, settled: Mapping[str, Any]) -> Choice | None:
    """Two groups at least (method.md §5); with too few images for that, one, which is said."""
    if settled.get("weights_from") or not has_batch_norm(settled["architecture"], settled["size"]):
        return None
    batch = settled["batch_size"]
    if facts.images < SMALLEST_BATCH:
        return Choice(
            "norm_group",
            batch,
            "images that share batch statistics: all of a batch, since two groups of "
            f"{SMALLEST_GROUP} need "
            f"{SMALLEST_BATCH} images; what is given up: a query can find its key by their "
            "batch mates",
        )
    group = SMALLEST_GROUP if batch < 2 * Config.norm_group else Config.norm_group
    count = max(1, batch // group)
    divided = f"{count} groups of {batch // count}" + (
        f" or {batch // count + 1}" if batch % count else ""
    )
    return Choice(
        "norm_group",
        group,
        f"images that share batch statistics, at least: a batch of {batch} is {divided}",
    )


def _epochs(facts: Facts, settled: Mapping[str, Any]) -> Choice | None:
    """By what the network takes here, to one digit, so that the same machine mostly chooses the
    same.
    """
    gpu = facts.machine.gpu
    try:
        rate = facts.images_per_second(settled["architecture"], settled["size"])
    except UsageError:
        # which others refuse
        return None
    seen = float(f"{rate * HOURS * 3600:.1g}")
    epochs = min(MOST_EPOCHS[gpu], max(FEWEST_EPOCHS[gpu], round(seen / facts.images)))
    bounds = f"{FEWEST_EPOCHS[gpu]} to {MOST_EPOCHS[gpu]}"
    measured = (
        f"about {seen:,.0f} images in all, {HOURS} hours at the rate measured on this "
        f"{_place(facts)[2:]}"
    )
    return Choice("epochs", epochs, f"{bounds}, to see {measured}")


def _place(facts: Facts) -> str:
    return "a GPU" if facts.machine.gpu else "a CPU"
