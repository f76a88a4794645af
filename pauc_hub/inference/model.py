"""A model in memory: backbone, head, prototypes, preprocessing, and what it makes of images. N
images, D width.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from pauc_hub.clustering.prototypes import Prototypes
from pauc_hub.device import choose_device, choose_precision
from pauc_hub.errors import UsageError
from pauc_hub.images.preprocessing import Preprocessing
from pauc_hub.images.reading import Ranges, as_reading
from pauc_hub.inference.cuda_graph import CapturedNetwork
from pauc_hub.inference.features import encode_squares
from pauc_hub.inference.folded_resnet import FoldedResNet, build_network
from pauc_hub.inference.streaming import ImageLike, embed_images
from pauc_hub.models.architectures import NETWORKS
from pauc_hub.models.catalog import Located
from pauc_hub.models.folder import ModelFolder
from pauc_hub.models.opening import open_model
from pauc_hub.models.projector import Projector
from pauc_hub.models.timm_network import PooledFeatures, build_timm_network, refusing_misfits

SPACES = ("backbone", "projection")


def load(
    model: str | Path | Located | ModelFolder,
    *,
    device: str = "auto",
    precision: str = "auto",
    image_size: int | None = None,
    quiet: bool = False,
) -> "Model":
    """Load a model, ready to embed images.

        >>> model = load("pauc_resnet18")
        >>> model.embed(["photos/camera.jpg", "photos/things/rocket.jpg"]).shape
        (2, 512)

    Args:
        model: a bundled model that `pauc models` lists, a model folder or run, a name of timm's
            such as `resnet50.a1_in1k`, or `hf-hub:owner/name[@revision]`; weights that are not here
            are fetched.
        device: `auto` is the first GPU, else the CPU; or a name of torch's.
        precision: `auto` is bf16 where the hardware multiplies it natively; or fp32, bf16.
        image_size: side of the square that the network sees, in pixels; the one it was trained with
            unless given.
        quiet: no progress bar while weights are fetched.

    Raises:
        UnknownModel, MissingWeights, ModelFolderError: there is no such model, or it is damaged.
        HubError: its weights cannot be fetched.
        UsageError: no such device or precision, or the network does not take that size.
    """
    place = choose_device(device)
    dtype = choose_precision(precision, place)
    if image_size is not None and image_size < 1:
        raise UsageError(f"image_size={image_size} is not a positive number of pixels.")
    folder = open_model(model, quiet=quiet)
    if image_size == folder.image_size:
        image_size = None
    network, config = _network(folder, dtype, image_size)
    preprocessing = Preprocessing.from_config(config)
    if image_size:
        preprocessing = replace(preprocessing, size=image_size)
    network = network.to(place)
    return Model(
        name=folder.name,
        network=CapturedNetwork(network)
        if _is_folded(folder) and place.type == "cuda"
        else network,
        projector=_projector(folder, place),
        preprocessing=preprocessing,
        folder=folder,
        device=place,
        dtype=dtype,
        width=network.width,
    )


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """What load() gives.

    >>> load("pauc_resnet18", device="cpu", precision="fp32")
    Model('pauc_resnet18.tiny_imagenet', resnet18, 512 features, projection of 128)
      64 x 64 pixels, fp32 on cpu, weights 1e315c73…
    """

    name: str
    network: nn.Module
    """What encode() runs, (N, 3, S, S) to (N, width): of a stock ResNet the folded one, else timm's
    own.

    The features are those that timm pools: `forward_head(forward_features(pixels),
    pre_logits=True)`.
    """
    projector: Projector | None
    """The head it was trained with, where the folder holds it."""
    preprocessing: Preprocessing
    folder: ModelFolder
    device: torch.device
    dtype: torch.dtype
    """What its matrix products are computed in; results are float32 always."""
    width: int
    """Of the backbone space, as the network has it."""

    @property
    def weights_sha256(self) -> str:
        return self.folder.weights_sha256

    @property
    def precision(self) -> str:
        return "bf16" if self.dtype is torch.bfloat16 else "fp32"

    @cached_property
    def backbone(self) -> nn.Module:
        """timm's network without a classifier, in evaluation mode: (N, 3, S, S) to (N, width).

        Read from the folder when first asked for, and yours to change: encode() and embed() have
        their own network.
        """
        size = self.preprocessing.size
        backbone: Any = build_timm_network(
            self.folder, size if size != self.folder.image_size else None
        )
        if getattr(backbone, "num_classes", 0):
            backbone.reset_classifier(0)
        return cast(nn.Module, backbone.to(self.device))

    @cached_property
    def prototypes(self) -> tuple[Prototypes, ...]:
        """The clusterings it was trained with, coarsest first; read when first asked for."""
        return self.folder.read_prototypes()

    def embed(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        batch_size: int = 64,
        workers: int | None = None,
        space: str = "backbone",
        decoding: str = "exact",
        value_range: Ranges = None,
        bands: Sequence[int] = (),
    ) -> npt.NDArray[np.float32]:
        """Embed images: paths, encoded bytes, PIL images or arrays (H, W) or (H, W, 3 or 4); one
        alone or many.

        Args:
            workers: threads that decode; one for each core unless given.
            space: `backbone`, or `projection` for unit vectors of the space the prototypes live in.
            decoding: `exact`, or `scaled` for large JPEGs at a fraction of their sides, quicker and
                less exact.
            value_range: the numbers that are black and white in images that have no bytes, `(270.0,
                310.0)`; or `image` for each one's own extremes. Unless given, what a file declares,
                else 0 to 65535 for integers and 0 to 1 for floats. `table.provenance.reading` has
                what a table was made with.
            bands: of TIFF files, from 1: red, green and blue, or one alone as grey.

        Returns:
            (N, D) float32; N is 1 for one image alone.

        Raises:
            PaucError: an image cannot be read, or nothing tells its range; the line says which.
        """
        several = cast(Iterable[ImageLike], [images] if _is_one(images) else images)
        reading = as_reading(value_range, bands)
        return embed_images(
            self,
            several,
            space=space,
            batch_size=batch_size,
            workers=workers,
            decoding=decoding,
            reading=reading,
        )

    def __repr__(self) -> str:
        projection = f", projection of {self.width_in('projection')}" if self.projector else ""
        side = self.preprocessing.size
        return (
            f"Model('{self.name}', {self.folder.architecture}, {self.width} features{projection})\n"
            f"  {side} x {side} pixels, {self.precision} on {self.device}, weights "
            f"{self.weights_sha256[:8]}…"
        )

    def width_in(self, space: str) -> int:
        """D of a space.

        Raises:
            UsageError: the model does not have it.
        """
        return self.width if space == "backbone" else self._head(space).output.out_features

    @torch.inference_mode()
    def encode(self, batch: Tensor, space: str = "backbone") -> Tensor:
        """Squares of bytes to embeddings.

        Args:
            batch: (N, S, S, 3) uint8 on any device.

        Returns:
            (N, D) float32 on the model's device; rows of unit norm where the space is `projection`.
        """
        network = (
            self.network if space == "backbone" else nn.Sequential(self.network, self._head(space))
        )
        return encode_squares(network, batch, self.preprocessing, self.device, self.dtype)

    def _head(self, space: str) -> Projector:
        if space not in SPACES:
            raise UsageError(f"unknown space '{space}'. Use one of {', '.join(SPACES)}.")
        if self.projector is None:
            raise UsageError(f"model '{self.name}' has no projection head. Use the backbone space.")
        return self.projector


def _is_one(images: Any) -> bool:
    return isinstance(images, str | Path | bytes | Image.Image) or (
        isinstance(images, np.ndarray) and images.ndim <= 3
    )


def _is_folded(folder: ModelFolder) -> bool:
    """Whether it is a ResNet as everybody knows it, of three colours and mean pooling."""
    told = {"global_pool": folder.config.get("global_pool"), **folder.model_args}
    usual = {"global_pool": (None, "avg"), "in_chans": (None, 3)}
    plain = all(told.get(key) in allowed for key, allowed in usual.items())
    return folder.architecture in NETWORKS and plain and told.keys() <= {*usual, "num_classes"}


def _network(
    folder: ModelFolder, dtype: torch.dtype, image_size: int | None
) -> tuple[FoldedResNet | PooledFeatures, dict[str, Any]]:
    """What computes the features, and timm's configuration of its images."""
    if _is_folded(folder):
        tensors = {
            name: tensor
            for name, tensor in folder.read_backbone().items()
            if not name.startswith("fc.")
        }
        with refusing_misfits(folder):
            return build_network(folder.architecture, tensors, dtype), folder.preprocessing_config
    backbone = build_timm_network(folder, image_size)
    return PooledFeatures(backbone), dict(cast(Any, backbone).pretrained_cfg)


def _projector(folder: ModelFolder, device: torch.device) -> Projector | None:
    tensors = folder.read_projector()
    if tensors is None:
        return None
    width, dim = (len(tensors.get(f"{layer}.bias", ())) for layer in ("hidden", "output"))
    projector = Projector(width, dim)
    with refusing_misfits(folder):
        projector.load_state_dict(tensors)
    return projector.eval().requires_grad_(False).to(device)
