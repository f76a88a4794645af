"""The networks that are trained and embedded with: stock ResNets, and ours with stems for small
images; no torch.
"""

from typing import NamedTuple


class Stem(NamedTuple):
    """What stands before the first block: a convolution and, where it `pools`, a max-pool of stride
    2.
    """

    kernel: int
    stride: int
    pools: bool

    @property
    def reduction(self) -> int:
        """How many times smaller a map is behind it than before."""
        return self.stride * (2 if self.pools else 1)


STOCK = Stem(kernel=7, stride=2, pools=True)
CIFAR = Stem(kernel=3, stride=1, pools=False)  # as the field has it for images of 32 pixels
CIFAR_POOL = Stem(kernel=3, stride=1, pools=True)  # and for those of 64


class Network(NamedTuple):
    """A ResNet."""

    depths: tuple[int, int, int, int]
    """Blocks of each stage."""
    deep: bool
    """Blocks of three convolutions, 1 x 1, 3 x 3 and 1 x 1, instead of two of 3 x 3."""
    stem: Stem = STOCK

    @property
    def reduction(self) -> int:
        """How many times smaller the last stage's maps are than the image: three stages halve
        them.
        """
        return 8 * self.stem.reduction


NETWORKS = {
    "resnet18": Network((2, 2, 2, 2), deep=False),
    "resnet34": Network((3, 4, 6, 3), deep=False),
    "resnet50": Network((3, 4, 6, 3), deep=True),
    "resnet101": Network((3, 4, 23, 3), deep=True),
    "pauc_resnet18_cifar": Network((2, 2, 2, 2), deep=False, stem=CIFAR),
    "pauc_resnet18_cifar_pool": Network((2, 2, 2, 2), deep=False, stem=CIFAR_POOL),
    "pauc_resnet50_cifar": Network((3, 4, 6, 3), deep=True, stem=CIFAR),
}
"""By the name that config.json has: timm's own where timm has one, so that it loads without this
package.
"""
