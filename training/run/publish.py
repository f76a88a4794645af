"""The end of a run: encoder, prototypes and receipts as a model folder."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pauc_hub.images.preprocessing import Preprocessing
from pauc_hub.models.card import render
from pauc_hub.models.folder import fits_half, write_folder
from pauc_hub.training.config import Config
from pauc_hub.training.data import ImageSource
from pauc_hub.training.estep import Expectation
from pauc_hub.training.networks.encoder import EXPORTED, Encoder
from pauc_hub.training.run import receipts

HARMLESS = 0.9999  # least cosine of fp16 weights' features to fp32's for the weights to be stored in fp16


@dataclass(frozen=True)
class Finished:
    """All that a model folder is made of.

    Attributes:
        sample: (n, S, S, 3) uint8, a few of the images, on the encoder's device: to see what rounding does.
        seconds: spent training, over all sittings.
        command: what was typed.
        done: epochs, and steps of the next one, that are over.
        scores: measured on the way, as the card shows them (models/card.py).
        schedules: laid anew on the way, see Training.
    """

    encoder: Encoder
    expectation: Expectation
    sample: Tensor
    source: ImageSource
    preprocessing: Preprocessing
    config: Config
    seconds: float
    command: str
    done: tuple[int, int]
    scores: Sequence[Mapping[str, Any]] = ()
    schedules: Sequence[Mapping[str, Any]] = ()

    @property
    def unfinished(self) -> bool:
        """Whether there are epochs to come."""
        return self.done != (self.config.epochs, 0)


def publish(finished: Finished, path: Path) -> Path:
    """Write the model folder, replacing one of an earlier sitting; returns its path."""
    config, encoder = finished.config, finished.encoder.eval()
    prototypes = finished.expectation.prototypes
    facts = _facts(finished, path.parent.name)
    half = fits_half(encoder.state_dict())
    if half:
        cosine = rounding_cosine(encoder, finished.preprocessing.normalise(finished.sample))
        facts["fp16_least_cosine"] = round(cosine, 6)
        half = cosine >= HARMLESS
    write_folder(
        path,
        architecture=config.architecture,
        backbone=encoder.backbone.state_dict(),
        num_features=encoder.width,
        preprocessing=finished.preprocessing.to_config() | _pool_size(encoder.backbone, config.size),
        pauc={
            "objective": config.objective,
            "dim": config.dim,
            "clusters": list(config.clusters or ()) if prototypes else [],
            "resolution": config.size,
        },
        projector=encoder.projector.state_dict(),
        prototypes=prototypes,
        facts=facts,
        card=render(facts),
        half=half,
        overwrite=True,
    )
    return path  # as it was given; write_folder makes it absolute


def _pool_size(backbone: nn.Module, side: int) -> dict[str, Any]:
    """Height and width of the last feature map, where timm has that for the network: test-time pooling needs it."""
    if not getattr(backbone, "pretrained_cfg", {}).get("pool_size"):
        return {}
    stages = cast(list[dict[str, Any]], backbone.feature_info)
    reduced = math.ceil(side / stages[-1]["reduction"])
    return {"pool_size": [reduced, reduced]}


@torch.no_grad()
def rounding_cosine(encoder: Encoder, images: Tensor) -> float:
    """Least cosine between the backbone's features with fp32 weights and with the same rounded to fp16 and back.

    Args:
        images: (n, 3, S, S) normalised.
    """
    rounded = copy.deepcopy(encoder.backbone).half().float()
    exact, other = encoder.backbone(images), rounded(images)
    return float(F.cosine_similarity(exact, other, dim=1).min())


def _facts(finished: Finished, name: str) -> dict[str, Any]:
    epoch, step = finished.done
    facts = {
        "name": name,
        "architecture": finished.config.architecture,
        "encoder": EXPORTED,
        "command": finished.command,
        "commit": receipts.commit(),
        "config": finished.config.to_json() | {"labelled": Path(finished.config.labelled).name},
        "data": {
            "name": Path(finished.source.root).name,
            "images": len(finished.source),
            "unreadable": len(finished.source.unreadable),
            "list_sha256": finished.source.fingerprint(),
        },
        "hardware": receipts.hardware(finished.sample.device),
        "versions": receipts.versions(),
        "seconds": round(finished.seconds, 1),
        "epochs": epoch,
        "prototypes": [len(each.sizes) for each in finished.expectation.prototypes],
        "schedules": list(finished.schedules),
        "scores": list(finished.scores),
    }
    if finished.unfinished:
        facts["unfinished"] = {"epoch": epoch, "step": step, "epochs": finished.config.epochs}
    return facts
