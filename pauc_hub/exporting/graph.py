"""What goes into an exported file: pixels, or bytes, to an embedding and what prototypes and a
probe make of it.

N images, S side, D width, K prototypes, C classes.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pauc_hub.answers.assignments import column_keys
from pauc_hub.answers.probe_file import ProbeFile
from pauc_hub.clustering.prototype_set import PrototypeSet
from pauc_hub.images.preprocessing import Preprocessing
from pauc_hub.models.projector import Projector

BACKBONE, PROJECTION = "backbone", "projection"
FEATURES, EMBEDDING = "features", "embedding"
# What a row of zeros is divided by; pauc_hub.answers.assignments.unit_points() has the same.
LEAST_LENGTH = 1e-30


class Normalisation(nn.Module):
    """(N, S, S, 3) bytes to the (N, 3, S, S) pixels that the network takes."""

    mean: Tensor
    std: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(preprocessing.mean).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(preprocessing.std).reshape(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return (images.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std


class PrototypeHead(nn.Module):
    """(N, D) embeddings to the outputs of assign_points(): prototype, similarity and, once
    calibrated, confidence.
    """

    def __init__(self, prototypes: PrototypeSet) -> None:
        super().__init__()
        self.space = prototypes.origin.space
        self.keys = column_keys(prototypes)
        self.nested = prototypes.nested
        calibration = prototypes.calibration
        self.temperatures = None if calibration is None else calibration.temperatures
        for level, each in enumerate(prototypes.levels):
            self.register_buffer(f"centroids_{level}", each.centroids.float())
            if prototypes.nested:
                self.register_buffer(f"ancestors_{level}", prototypes.ancestors(level))

    @property
    def names(self) -> list[str]:
        kinds = ["prototype", "similarity", *(["confidence"] if self.temperatures else [])]
        return [f"{kind}_{key}" for key in self.keys for kind in kinds]

    def forward(self, embedding: Tensor) -> list[Tensor]:
        unit = F.normalize(embedding, dim=1, eps=LEAST_LENGTH)
        similarities = [
            unit @ self.get_buffer(f"centroids_{level}").T for level in range(len(self.keys))
        ]
        finest = similarities[-1].argmax(dim=1)
        found: list[Tensor] = []
        for level, each in enumerate(similarities):
            own = (
                self.get_buffer(f"ancestors_{level}")[finest] if self.nested else each.argmax(dim=1)
            )
            found += [own, each.gather(1, own[:, None]).squeeze(1)]
            if self.temperatures:
                found.append(self._confidence(similarities, own, level, self.temperatures))
        return found

    def _confidence(
        self, similarities: Sequence[Tensor], own: Tensor, level: int, temperatures: Sequence[float]
    ) -> Tensor:
        """(N,) share of the prototype at a granularity; where they nest, the sum over its
        descendants'.
        """
        if not self.nested:
            shares = torch.softmax(similarities[level] / temperatures[level], dim=1)
            return shares.gather(1, own[:, None]).squeeze(1)
        shares = torch.softmax(similarities[-1] / temperatures[-1], dim=1)
        descends = self.get_buffer(f"ancestors_{level}") == own[:, None]
        return (shares * descends).sum(dim=1).clamp_max(1)


class ProbeHead(nn.Module):
    """(N, D) embeddings to the likeliest class, its probability, and the (N, C) probabilities of
    all.
    """

    names = ("class", "probability", "probabilities")
    mean: Tensor
    scale: Tensor
    weights: Tensor
    intercept: Tensor

    def __init__(self, probe: ProbeFile) -> None:
        super().__init__()
        linear = probe.model
        self.space = probe.origin.space
        self.several = linear.several
        self.temperature = linear.temperature
        self.register_buffer("mean", linear.standardisation.mean)
        self.register_buffer("scale", linear.standardisation.scale)
        self.register_buffer("weights", linear.weights)
        self.register_buffer("intercept", linear.intercept)

    def forward(self, embedding: Tensor) -> list[Tensor]:
        logits = (
            F.linear((embedding - self.mean) / self.scale, self.weights, self.intercept)
            / self.temperature
        )
        probabilities = logits.sigmoid() if self.several else logits.softmax(dim=1)
        return [probabilities.argmax(dim=1), probabilities.amax(dim=1), probabilities]


Head = PrototypeHead | ProbeHead


class Graph(nn.Module):
    """The whole of a file.

    Args:
        network: (N, 3, S, S) pixels to (N, D) features.
        projector: the model's head, where the embedding or something below needs it.
        normalisation: takes bytes where it is given, else the file takes normalised pixels.
        space: of the embedding.
        half: whether the network computes in 16 bits; everything after it stays in 32.
        tells_features: whether the features are an output too, where the embedding is of another
            space.
    """

    def __init__(
        self,
        network: nn.Module,
        projector: Projector | None,
        normalisation: Normalisation | None,
        heads: Sequence[Head],
        *,
        space: str,
        half: bool = False,
        tells_features: bool = False,
    ) -> None:
        super().__init__()
        self.network = network.half() if half else network
        self.projector = projector
        self.normalisation = normalisation
        self.heads = nn.ModuleList(heads)
        self.space = space
        self.half_network = half
        self.tells_features = tells_features and space != BACKBONE

    @property
    def names(self) -> list[str]:
        """Of the outputs, in their order."""
        last = [FEATURES] if self.tells_features else []
        return [EMBEDDING, *(name for head in self.heads for name in cast(Head, head).names), *last]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        pixels = images if self.normalisation is None else self.normalisation(images)
        features = self.network(pixels.half() if self.half_network else pixels).float()
        spaces = {BACKBONE: features}
        if self.projector is not None:
            spaces[PROJECTION] = self.projector(features)
        found = [spaces[self.space]]
        for head in self.heads:
            found += head(spaces[cast(Head, head).space])
        return tuple([*found, features] if self.tells_features else found)
