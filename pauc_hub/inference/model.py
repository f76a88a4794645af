"""A model in memory: backbone, head, prototypes, preprocessing, and what it makes of images. N images, D width."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from pauc_hub.clustering.prototypes import Prototypes
from pauc_hub.device import autocast, choose_device, choose_precision, send
from pauc_hub.errors import ModelFolderError, UsageError
from pauc_hub.images.preprocessing import Preprocessing
from pauc_hub.inference.backend import choose_backend
from pauc_hub.inference.cuda_graph import CapturedNetwork
from pauc_hub.inference.folded_resnet import build_network
from pauc_hub.inference.openvino_network import OpenVinoNetwork
from pauc_hub.inference.streaming import ImageSource, embed_images
from pauc_hub.models.architectures import NETWORKS
from pauc_hub.models.catalog import locate
from pauc_hub.models.folder import ModelFolder, open_folder
from pauc_hub.models.projector import Projector
from pauc_hub.models.registration import import_timm

SPACES = ("backbone", "projection")


def load(model: str | Path, *, device: str = "auto", precision: str = "auto", backend: str = "auto") -> "Model":
    """Load a model, ready to embed images.

        >>> model = load("pauc_resnet18")
        >>> model.embed("cat.jpg").shape
        (1, 512)

    Args:
        model: a name that `pauc models` lists, with or without its tag, or a model folder.
        device: `auto` is the first GPU, else the CPU; or a name of torch's.
        precision: `auto` is bf16 where the hardware multiplies it natively; or fp32, bf16.
        backend: `auto` is OpenVINO for a stock ResNet on a CPU where it is installed; or torch, openvino.

    Raises:
        UnknownModel, MissingWeights, ModelFolderError: there is no such model, or it is damaged.
        UsageError: no such device, precision or backend.
    """
    folder = open_folder(locate(model))
    place = choose_device(device)
    dtype = choose_precision(precision, place)
    chosen = choose_backend(backend, place, folder.architecture)
    preprocessing = Preprocessing.from_config(folder.preprocessing_config)
    return Model(
        name=str(folder.facts.get("name") or folder.path.resolve().name),
        network=_network(folder, preprocessing.size, dtype, chosen, place),
        projector=_projector(folder, place),
        preprocessing=preprocessing,
        folder=folder,
        device=place,
        dtype=dtype,
        backend=chosen,
    )


@dataclass(frozen=True, eq=False)
class Model:
    """What load() gives."""

    name: str
    network: nn.Module
    """What encode() runs, (N, 3, S, S) to (N, width): of a stock ResNet the folded one, else timm's own."""
    projector: Projector | None
    """The head it was trained with, where the folder holds it."""
    preprocessing: Preprocessing
    folder: ModelFolder
    device: torch.device
    dtype: torch.dtype
    """What its matrix products are computed in; results are float32 always."""
    backend: str = "torch"
    """What runs the network: `torch`, or `openvino`."""

    @property
    def width(self) -> int:
        """Of the backbone space."""
        return self.folder.num_features

    @property
    def weights_sha256(self) -> str:
        return self.folder.weights_sha256

    @property
    def precision(self) -> str:
        return "bf16" if self.dtype is torch.bfloat16 else "fp32"

    @cached_property
    def backbone(self) -> nn.Module:
        """timm's network without a classifier, in evaluation mode: (N, 3, S, S) to (N, width).

        Read from the folder when first asked for, and yours to change: encode() and embed() have their own network.
        """
        return _timm_network(self.folder).to(self.device)

    @cached_property
    def prototypes(self) -> tuple[Prototypes, ...]:
        """The clusterings it was trained with, coarsest first; read when first asked for."""
        return self.folder.read_prototypes()

    def embed(
        self,
        images: ImageSource | Iterable[ImageSource],
        *,
        batch_size: int = 64,
        workers: int | None = None,
        space: str = "backbone",
        decoding: str = "exact",
    ) -> npt.NDArray[np.float32]:
        """Embed images: paths, encoded bytes, PIL images or arrays (H, W) or (H, W, 3 or 4); one alone or many.

        Args:
            workers: threads that decode; one for each core unless given.
            space: `backbone`, or `projection` for unit vectors of the space the prototypes live in.
            decoding: `exact`, or `scaled` for large JPEGs at a fraction of their sides, quicker and less exact.

        Returns:
            (N, D) float32; N is 1 for one image alone.

        Raises:
            PaucError: an image cannot be read; the line says which.
        """
        several = cast(Iterable[ImageSource], [images] if _is_one(images) else images)
        return embed_images(self, several, space=space, batch_size=batch_size, workers=workers, decoding=decoding)

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
        pixels = self.preprocessing.normalise(send(batch, self.device), self.dtype)
        with autocast(self.device, self.dtype):
            features: Tensor = self.network(pixels)
            return (features if space == "backbone" else self._head(space)(features)).float()

    def _head(self, space: str) -> Projector:
        if space not in SPACES:
            raise UsageError(f"unknown space '{space}'. Use one of {', '.join(SPACES)}.")
        if self.projector is None:
            raise UsageError(f"model '{self.name}' has no projection head. Use the backbone space.")
        return self.projector


def _is_one(images: Any) -> bool:
    return isinstance(images, str | Path | bytes | Image.Image) or (isinstance(images, np.ndarray) and images.ndim <= 3)


def _network(folder: ModelFolder, size: int, dtype: torch.dtype, backend: str, device: torch.device) -> nn.Module:
    if folder.architecture not in NETWORKS:
        return _timm_network(folder).to(device)
    of_openvino = backend == "openvino"  # which rounds the weights itself
    with _refusing_misfits(folder):
        network = build_network(folder.architecture, folder.read_backbone(), torch.float32 if of_openvino else dtype)
    if of_openvino:
        return OpenVinoNetwork(network, size, dtype)
    network = network.to(device)
    return CapturedNetwork(network) if device.type == "cuda" else network


def _timm_network(folder: ModelFolder) -> nn.Module:
    timm = import_timm()
    if not timm.is_model(folder.architecture):  # create_model() would also fetch from the network what names a place
        raise ModelFolderError(f"'{folder.path}' is of an architecture unknown to timm: '{folder.architecture}'.")
    backbone = cast(nn.Module, timm.create_model(folder.architecture, pretrained=False, num_classes=0))
    _fill(backbone, folder.read_backbone(), folder)
    return backbone.to(memory_format=torch.channels_last)


def _projector(folder: ModelFolder, device: torch.device) -> Projector | None:
    tensors = folder.read_projector()
    if tensors is None:
        return None
    projector = Projector(folder.num_features, len(tensors.get("output.bias", ())))
    _fill(projector, tensors, folder)
    return projector.to(device)


def _fill(module: nn.Module, tensors: dict[str, Tensor], folder: ModelFolder) -> None:
    with _refusing_misfits(folder):
        module.load_state_dict(tensors)
    module.eval().requires_grad_(False)


@contextmanager
def _refusing_misfits(folder: ModelFolder) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelFolderError(
            f"the weights in '{folder.path}' do not fit its {folder.architecture} ({reason})."
        ) from error
