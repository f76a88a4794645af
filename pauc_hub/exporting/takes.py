"""What an exported file takes: bytes, or pixels that were normalised outside. N images, S side."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pauc_hub.images.preprocessing import Preprocessing


@dataclass(frozen=True)
class Takes:
    """The input of a file."""

    preprocessing: Preprocessing
    uint8: bool
    """Whether the network's normalisation is inside."""
    dynamic_size: bool

    @property
    def name(self) -> str:
        return "images" if self.uint8 else "pixels"

    @property
    def type(self) -> str:
        return "uint8" if self.uint8 else "float32"

    @property
    def layout(self) -> str:
        return "NHWC" if self.uint8 else "NCHW"

    @property
    def shape(self) -> list[str | int]:
        """Free sides are words."""
        size = self.preprocessing.size
        sides: list[str | int] = ["height", "width"] if self.dynamic_size else [size, size]
        return ["batch", *sides, 3] if self.uint8 else ["batch", 3, *sides]

    def facts(self) -> dict[str, Any]:
        """For the file's metadata."""
        values = "RGB bytes" if self.uint8 else "RGB in [0, 1], less mean, over std"
        return {
            "name": self.name,
            "type": self.type,
            "layout": self.layout,
            "shape": self.shape,
            "values": values,
        }

    def feed(self, squares: npt.NDArray[np.uint8]) -> npt.NDArray[np.generic]:
        """(n, H, W, 3) bytes as the file takes them; Preprocessing.normalise() knows squares of its
        own size only.
        """
        if self.uint8:
            return squares
        pixels = torch.from_numpy(squares).float() / 255
        mean, std = (
            torch.tensor(each) for each in (self.preprocessing.mean, self.preprocessing.std)
        )
        return ((pixels - mean) / std).permute(0, 3, 1, 2).contiguous().numpy()
