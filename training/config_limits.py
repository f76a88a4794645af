"""What each setting of a run may be by itself: one of some words, no less than a number, within a
range.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from pauc_hub.clustering.kmeans import BACKENDS
from pauc_hub.device import PRECISIONS

OBJECTIVES = ("infonce", "protonce", "pauc")
PROTOTYPES_FROM = ("batch", "batch_and_queue", "bank")
OPTIMISERS = ("sgd", "lars", "adamw")
# its steps are about lr long whatever the gradient: SGD's 0.06 would destroy the weights
HIGHEST_ADAMW_LR = 0.02
# images whose mean and variance batch norm can learn from (method.md §5)
SMALLEST_GROUP = 32
# sides of full and of small views, pixels
SMALLEST_SIZE = 32
SMALLEST_VIEW = 16
# share of the epochs: what comes last must know the full size
MOST_PROGRESSIVE = 0.9
# share of the images: most are there to be learnt from
MOST_KEPT_OUT = 0.5
# brightness, contrast, saturation, and hue, of which half is the whole circle
MOST_JITTER = (1, 1, 1, 0.5)
CHOICES = {
    "objective": OBJECTIVES,
    "prototypes_from": PROTOTYPES_FROM,
    "optimiser": OPTIMISERS,
    "precision": PRECISIONS,
    "kmeans": BACKENDS,
}
LEAST = (
    ("size", SMALLEST_SIZE),
    ("epochs", 1),
    ("batch_size", 2),  # batch norm has no variance of one
    ("dim", 2),  # nor has one dimension another to correlate with
    ("negatives", 1),
    ("small_views", 0),
    ("kmeans_iterations", 1),
    ("kmeans_restarts", 1),
    ("seed", 0),
)
NOT_NEGATIVE = (
    "weight_decay",
    "weight_proto",
    "weight_align",
    "weight_unif",
    "weight_corr",
    "weight_scatter",
    "correlation_lambda",
)
SHARES = (
    "momentum",
    "projector_share",
    "backbone_rate",
    "layer_decay",
    "warmup",
    "ramp",
    "lr_warmup",
    "jitter_probability",
    "grey",
    "blur",
    "flip",
)
# of floats; NaN lies in no range
TINY = math.ulp(0.0)
HUGE = sys.float_info.max
RANGES = (
    (("lr", "temperature"), TINY, HUGE, "be a finite number above 0"),
    (NOT_NEGATIVE, 0.0, HUGE, "be a finite number, 0 or more"),
    (SHARES, 0.0, 1.0, "lie in [0, 1]"),
    (("progressive_share",), 0.0, MOST_PROGRESSIVE, f"lie in [0, {MOST_PROGRESSIVE}]"),
    (("kept_out",), 0.0, MOST_KEPT_OUT, f"lie in [0, {MOST_KEPT_OUT}]"),
    (("crop_min",), TINY, 1.0, "lie above 0 and at most at 1"),
)


def wrong_choices(values: Mapping[str, Any]) -> list[str]:
    """A line for each setting that is none of its words.

    Args:
        values: of all settings, by name.
    """
    return [
        f"{name}='{values[name]}' is none of {', '.join(allowed)}"
        for name, allowed in CHOICES.items()
        if values[name] not in allowed
    ]


def out_of_range(values: Mapping[str, Any]) -> list[str]:
    """A line for each number, or row of numbers, that is too small or out of its range.

    Args:
        values: of all settings, by name.
    """
    found = [
        f"{name}={values[name]} must be {least} or more"
        for name, least in LEAST
        if values[name] < least
    ]
    for names, low, high, allowed in RANGES:
        found += [
            f"{name}={values[name]:g} must {allowed}"
            for name in names
            if not low <= values[name] <= high
        ]
    jitter = values["jitter"]
    if not all(0 <= reach <= most for reach, most in zip(jitter, MOST_JITTER, strict=True)):
        found.append(f"jitter={words(jitter)} must lie in [0, 1], the fourth, hue, in [0, 0.5]")
    if not all(0 < value <= HUGE for value in values["std"]):
        found.append(f"std={words(values['std'])} must be finite numbers above 0")
    return found


def words(numbers: Sequence[float]) -> str:
    return ",".join(str(number) for number in numbers) or "(none)"
