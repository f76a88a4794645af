"""Writing a model folder: its files made of tensors and facts, put in place whole or not at all."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from pauc_hub.clustering.prototype_set import SCORES, Calibration, tensors_of
from pauc_hub.clustering.prototypes import Prototypes
from pauc_hub.errors import ModelFolderError, OutputExists
from pauc_hub.files.artefact import METADATA_KEY, ordered
from pauc_hub.files.atomic import write_directory
from pauc_hub.files.checksums import SUMS, format_sums
from pauc_hub.models.folder import (
    CARD,
    CURVES,
    FACTS,
    MODEL_CONFIG,
    MODEL_FORMAT,
    PROJECTOR,
    PROTOTYPES,
    WEIGHTS,
)
from pauc_hub.models.sentence_transformers_files import sentence_transformers_files

LARGEST_HALF = torch.finfo(torch.float16).max
PREPROCESSING_KEYS = frozenset(
    {"input_size", "crop_pct", "crop_mode", "interpolation", "mean", "pool_size", "std"}
)
# What else timm knows of a network: the names of two layers, and whether the side of the images is
# part of it.
NETWORK_KEYS = frozenset({"first_conv", "classifier", "fixed_input_size"})


def write_folder(
    path: Path | str,
    *,
    architecture: str,
    backbone: Mapping[str, Tensor],
    num_features: int,
    preprocessing: Mapping[str, Any],
    pauc: Mapping[str, Any],
    projector: Mapping[str, Tensor] | None,
    prototypes: Sequence[Prototypes],
    facts: Mapping[str, Any],
    card: str,
    half: bool,
    curves: bytes | None = None,
    calibration: Calibration | None = None,
    global_pool: str = "avg",
    model_args: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a model folder: there whole, synced to disk, or not at all.

    Args:
        path: the folder; an empty one may stand there.
        architecture: timm's own name where it has one, such as `resnet18`: it then loads the folder
            without us.
        backbone: exactly timm's own keys, no classifier; timm loads strictly.
        num_features: width of the backbone space.
        preprocessing: timm's keys input_size, crop_pct, crop_mode, interpolation, mean, std; and
            first_conv, classifier, fixed_input_size of networks other than ResNets.
        pauc: objective, dim, clusters, resolution, and what else only this project knows; JSON.
        projector: tensors of `Projector`, or None.
        prototypes: one entry a clustering, coarsest first.
        facts: the receipts; JSON.
        card: README.md, rendered from the facts.
        half: store floating-point numbers in 16 bits.
        curves: curves.png, or None.
        calibration: of the prototypes.
        global_pool: how the network pools, in timm's word.
        model_args: what timm has to be told to build the network, such as `img_size`.
        overwrite: replace the model folder that stands there; nothing else is ever replaced.

    Returns:
        The absolute path.

    Raises:
        OutputExists: something stands there that may not be replaced.
        ModelFolderError: `half`, and a number is too large for it.
        ValueError: a preprocessing key that timm would refuse.
    """
    path = Path(path).expanduser().resolve()
    refuse_to_replace(path, overwrite)
    tensors = {WEIGHTS: backbone, PROJECTOR: projector or {}}
    files = {name: _serialise(values, half) for name, values in tensors.items() if values}
    if prototypes:
        files[PROTOTYPES] = _prototypes_file(prototypes, calibration, half)
    files[MODEL_CONFIG] = _to_json(
        _config(architecture, num_features, preprocessing, pauc, global_pool, model_args or {})
    )
    files[FACTS] = _to_json(facts)
    files[CARD] = card.encode()
    if curves:
        files[CURVES] = curves
    files |= sentence_transformers_files()
    files[SUMS] = format_sums(files)
    write_directory(path, files)
    return path


def fits_half(tensors: Mapping[str, Tensor]) -> bool:
    """Whether 16 bits hold all floating-point numbers among these."""
    return all(
        _largest(tensor) <= LARGEST_HALF
        for tensor in tensors.values()
        if tensor.is_floating_point()
    )


def refuse_to_replace(path: Path, overwrite: bool) -> None:
    """Let only a model folder be replaced, and only where that was asked for.

    Raises:
        OutputExists: something else stands there, or `overwrite` is not given.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not overwrite:
        raise OutputExists(f"'{path}' exists. Name another place, or give overwrite=True.")
    if not all((path / name).is_file() for name in (MODEL_CONFIG, SUMS)):
        raise OutputExists(
            f"'{path}' is no model folder, so it is not overwritten. Name another place."
        )


def _config(
    architecture: str,
    width: int,
    preprocessing: Mapping[str, Any],
    pauc: Mapping[str, Any],
    global_pool: str,
    model_args: Mapping[str, Any],
) -> dict[str, Any]:
    if unknown := sorted(set(preprocessing) - PREPROCESSING_KEYS - NETWORK_KEYS):
        raise ValueError(f"timm has no preprocessing key {', '.join(unknown)}")
    resnet = {"first_conv": "conv1", "classifier": "fc"}
    return {
        "architecture": architecture,
        "num_classes": 0,
        "num_features": width,
        "global_pool": global_pool,
        **({"model_args": dict(model_args)} if model_args else {}),
        # transformers would otherwise train in the 16 bits that the weights are stored in, and
        # diverge.
        "dtype": "float32",
        "pretrained_cfg": {**resnet, **preprocessing, "num_classes": 0},
        "pauc": {"format_version": MODEL_FORMAT, **pauc},
    }


def _prototypes_file(
    prototypes: Sequence[Prototypes], calibration: Calibration | None, half: bool
) -> bytes:
    """What pauc_hub/clustering/prototype_set.py says of a file, without an origin, which the folder
    is.
    """
    levels = tensors_of(prototypes)
    if calibration is None:
        return _serialise(levels, half)
    about = {"kind": "model's prototypes", "nested": False, "calibration": calibration.to_dict()}
    tensors = {name: _storable(name, tensor, half) for name, tensor in levels.items()}
    # in 16 bits a threshold would flag other images than those that it was verified on
    tensors[SCORES] = _storable(SCORES, calibration.scores, half=False)
    metadata = {"format": "pt", METADATA_KEY: json.dumps(about)}
    return ordered(safetensors.torch.save(tensors, metadata=metadata))


def _serialise(tensors: Mapping[str, Tensor], half: bool) -> bytes:
    stored = {name: _storable(name, tensor, half) for name, tensor in tensors.items()}
    # transformers refuses files that do not say so
    return safetensors.torch.save(stored, metadata={"format": "pt"})


def _storable(name: str, tensor: Tensor, half: bool) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    if not half or not tensor.is_floating_point():
        return tensor
    if (largest := _largest(tensor)) > LARGEST_HALF:
        raise ModelFolderError(
            f"{name} reaches {largest:.3g}, too large for 16 bits. Write it in full precision."
        )
    return tensor.half()


def _largest(tensor: Tensor) -> float:
    return tensor.abs().max().item() if tensor.numel() > 0 else 0.0


def _to_json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
