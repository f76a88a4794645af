"""Checkpoints that their authors publish, by name."""

from typing import NamedTuple


class Published(NamedTuple):
    """A file on the network."""

    url: str
    format: str
    licence: str
    terms: str


_PCL = "https://storage.googleapis.com/sfr-pcl-data-research/PCL_checkpoint/"
_HCSC = "https://hcscpretrained.s3.us-east-2.amazonaws.com/"
_TERMS = (
    "The licence is that of the authors' code; the weights were trained on ImageNet, whose "
    "terms allow research."
)

PUBLISHED = {
    "pcl-v1": Published(f"{_PCL}PCL_v1_epoch200.pth.tar", "moco", "MIT", _TERMS),
    "pcl-v2": Published(f"{_PCL}PCL_v2_epoch200.pth.tar", "moco", "MIT", _TERMS),
    "hcsc-200": Published(f"{_HCSC}hcsc_200eps.pth", "moco", "MIT", _TERMS),
    "hcsc-multicrop-200": Published(f"{_HCSC}hcsc_multicrop_200eps.pth", "moco", "MIT", _TERMS),
}
