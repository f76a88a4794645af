"""Settings that do not go together, with the network or with the number of images: a line for each
problem.
"""

from collections.abc import Sequence

from pauc_hub.errors import UsageError
from pauc_hub.models.architectures import NETWORKS
from pauc_hub.training.config_limits import SMALLEST_GROUP, SMALLEST_SIZE, SMALLEST_VIEW, words
from pauc_hub.training.derived import IMAGES_PER_CLUSTER
from pauc_hub.training.networks.backbone import inspect_backbone
from pauc_hub.training.networks.pretrained import block_count


def wrong_blur(blur_sigma: tuple[float, float] | None, size: int) -> list[str]:
    """A blur that is no range of pixels, or wider than the views."""
    if blur_sigma is None or 0 < blur_sigma[0] <= blur_sigma[1] <= size:
        return []
    allowed = f"the least and the largest, in pixels above 0, at most size ({size})"
    return [f"blur_sigma={words(blur_sigma)} must be {allowed}"]


def wrong_progressive_sizes(sizes: Sequence[int], size: int) -> list[str]:
    """Sides of the first epochs that do not rise, or not to `size`."""
    rising = list(sizes) == sorted(set(sizes))
    if rising and all(SMALLEST_SIZE <= side < size for side in sizes):
        return []
    allowed = f"rising numbers, {SMALLEST_SIZE} or more and less than size ({size})"
    return [f"progressive_sizes={words(sizes)} must be {allowed}"]


def wrong_small_views(count: int, side: int, size: int, least: int, architecture: str) -> list[str]:
    """Small views that are not smaller than the full ones, or in a network whose last maps would be
    single pixels.

    Args:
        count: small views of each image.
        side: theirs, pixels.
        size: side of the full views, pixels.
        least: side of the full views where it is smallest, pixels.
    """
    if count <= 0:
        return []
    found = []
    if not SMALLEST_VIEW <= side < size:
        found.append(f"small_view_size={side} must be {SMALLEST_VIEW} or more and less than size")
    network = NETWORKS.get(architecture)
    if network is not None and least < 2 * network.reduction:
        found.append(
            f"small_views={count} needs views of {2 * network.reduction} pixels or more with "
            f"architecture='{architecture}', whose last maps are 1 x 1 at {least}"
        )
    return found


def wrong_network(
    architecture: str, size: int, small_views: int, progressive_sizes: Sequence[int]
) -> list[str]:
    """A network that timm does not have, that does not pool, or that takes views of one side alone
    where several are asked for.
    """
    if architecture in NETWORKS or size < SMALLEST_SIZE:
        return []
    try:
        traits = inspect_backbone(architecture, size)
    except UsageError as error:
        return [str(error)]
    if not traits.fixed_size:
        return []
    several = []
    if small_views:
        several.append(f"small_views={small_views}")
    if progressive_sizes:
        several.append(f"progressive_sizes={words(progressive_sizes)}")
    one_alone = f"architecture='{architecture}' takes one alone"
    return [f"{setting} needs views of several sides, and {one_alone}" for setting in several]


def wrong_freeze(freeze: int, architecture: str, size: int) -> list[str]:
    """More stages or blocks to freeze than there are."""
    count = block_count(architecture, size)
    if 0 <= freeze < count:
        return []
    return [
        f"freeze={freeze} must be 0 to {count - 1}: {architecture} has {count} stages or blocks"
    ]


def wrong_groups(batch_size: int, norm_group: int, images: int) -> list[str]:
    """Batch-norm groups that are too small, or one alone.

    Fewer than 64 images hold no two groups of 32: there a batch may be one group.
    """
    several = images >= 2 * SMALLEST_GROUP
    least = SMALLEST_GROUP if several else min(SMALLEST_GROUP, batch_size)
    if norm_group < least:
        return [f"norm_group={norm_group} must be {least} or more"]
    if not several or batch_size // norm_group >= 2:
        return []
    way_out = f"give batch_size={2 * norm_group} or more"
    if batch_size >= 2 * SMALLEST_GROUP:
        way_out += f", or norm_group={SMALLEST_GROUP}"
    held = f"batch_size={batch_size} does not hold two batch-norm groups of norm_group={norm_group}"
    return [f"{held}, and with one a query finds its key by their batch mates: {way_out}"]


def wrong_clusters(clusters: Sequence[int], images: int) -> list[str]:
    """Numbers of clusters that do not rise, or of too few images each."""
    if not clusters or min(clusters) < 2 or list(clusters) != sorted(set(clusters)):
        return [f"clusters={words(clusters)} must be rising numbers, 2 or more"]
    finest = clusters[-1]
    needed = finest * IMAGES_PER_CLUSTER
    if needed <= images:
        return []
    most = images // IMAGES_PER_CLUSTER
    asked = f"clusters={finest} needs at least {needed} images ({IMAGES_PER_CLUSTER} each)"
    way_out = f": give {most} or less" if most >= 2 else ""
    return [f"{asked}; there are {images}{way_out}"]
