"""The end of a run: encoder, prototypes and receipts as a model folder."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pauc_hub.clustering.prototype_set import Calibration
from pauc_hub.images.preprocessing import Preprocessing
from pauc_hub.models.card import render_card
from pauc_hub.models.folder import CURVES
from pauc_hub.models.write_folder import fits_half, write_folder
from pauc_hub.sources.by_index import ImageSource
from pauc_hub.training.config import Config
from pauc_hub.training.estep import Expectation
from pauc_hub.training.networks.backbone import build_options
from pauc_hub.training.networks.encoder import EXPORTED_ENCODER, Encoder
from pauc_hub.training.run import receipts

# least cosine of fp16 weights' features to fp32's for the weights to be stored in fp16
HARMLESS = 0.9999


@dataclass(frozen=True)
class Finished:
    """All that a model folder is made of.

    Attributes:
        sample: (n, S, S, 3) uint8, a few of the images, on the encoder's device: to see what
            rounding does.
        seconds: spent training, over all sittings.
        command: what was typed.
        done: epochs, and steps of the next one, that are over.
        scores: measured on the way, as the card shows them (models/card.py).
        schedules: laid anew on the way, see Training.
        curves: the picture of its curves (monitoring/curves.py), or None.
        calibration: of the prototypes, where images were kept out for that.
        kept_out: how many were.
        before_after: what became of the weights that it started from (monitoring/before_after.py).
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
    before_after: Mapping[str, Any] = field(default_factory=dict)
    curves: Path | None = None
    calibration: Calibration | None = None
    kept_out: int = 0

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
        preprocessing=finished.preprocessing.to_config()
        | _described(encoder.backbone, config.size),
        global_pool=_pooling(encoder.backbone),
        model_args=build_options(config.architecture, config.size),
        pauc={
            "objective": config.objective,
            "dim": config.dim,
            "clusters": list(config.clusters or ()) if prototypes else [],
            "resolution": config.size,
        },
        projector=encoder.projector.state_dict(),
        prototypes=prototypes,
        facts=facts,
        card=render_card(facts),
        half=half,
        curves=finished.curves.read_bytes() if finished.curves else None,
        calibration=finished.calibration,
        overwrite=True,
    )
    return path  # as it was given; write_folder makes it absolute


def _described(backbone: nn.Module, side: int) -> dict[str, Any]:
    """What timm has of the network: its first and last layer, whether its size is fixed.

    And height and width of the last feature map, where timm has that for it: test-time pooling
    needs it.
    """
    cfg: dict[str, Any] = getattr(backbone, "pretrained_cfg", {})
    found = {key: cfg[key] for key in ("first_conv", "classifier") if cfg.get(key)}
    if cfg.get("fixed_input_size"):
        found["fixed_input_size"] = True
    if cfg.get("pool_size"):
        stages = cast(list[dict[str, Any]], backbone.feature_info)
        reduced = math.ceil(side / stages[-1]["reduction"])
        found["pool_size"] = [reduced, reduced]
    return found


def _pooling(backbone: nn.Module) -> str:
    """In timm's word; networks that hold a module for it take the mean."""
    pooling = getattr(backbone, "global_pool", None)
    return pooling if isinstance(pooling, str) else "avg"


@torch.no_grad()
def rounding_cosine(encoder: Encoder, images: Tensor) -> float:
    """Least cosine between the backbone's features with fp32 weights and with the same rounded to
    fp16 and back.

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
        "encoder": EXPORTED_ENCODER,
        "command": finished.command,
        "commit": receipts.commit(),
        "config": finished.config.to_json() | {"labelled": Path(finished.config.labelled).name},
        "data": {
            "name": Path(finished.source.root).name,
            "images": len(finished.source),
            "kept_out": finished.kept_out,
            "unreadable": len(finished.source.unreadable),
            "list_sha256": finished.source.fingerprint(),
            **finished.source.reading.to_config(),
        },
        "hardware": receipts.hardware(finished.sample.device),
        "versions": receipts.versions(),
        "seconds": round(finished.seconds, 1),
        "epochs": epoch,
        "prototypes": [len(each.sizes) for each in finished.expectation.prototypes],
        "schedules": list(finished.schedules),
        "scores": list(finished.scores),
    }
    if finished.before_after:
        facts["before_after"] = dict(finished.before_after)
    if finished.curves:
        facts["curves"] = CURVES
    if finished.unfinished:
        facts["unfinished"] = {"epoch": epoch, "step": step, "epochs": finished.config.epochs}
    return facts
