"""The model folder: weights, prototypes and receipts in files that timm and coreutils read too
(architecture.md).

Folders that timm saved, without receipts and sums, are read as well.
"""

import io
import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from pauc_hub.clustering.prototype_set import SCORES, Calibration
from pauc_hub.clustering.prototypes import Prototypes
from pauc_hub.errors import ModelFolderError, OutputExists
from pauc_hub.files.artefact import METADATA_KEY, ordered
from pauc_hub.files.atomic import write_directory
from pauc_hub.files.checksums import (
    SUMS,
    expected_sum,
    file_sum,
    format_sums,
    read_bytes,
    read_checked,
    read_sums,
)
from pauc_hub.models.sentence_transformers_files import sentence_transformers_files

FORMAT_VERSION = 1
CONFIG, WEIGHTS, FACTS, CARD = "config.json", "model.safetensors", "facts.json", "README.md"
# The picture of a run's curves, which the card shows.
CURVES = "curves.png"
# Where the weights are, in timm's order of preference; the pickled ones are read as weights alone.
WEIGHT_FILES = (WEIGHTS, "pytorch_model.bin")
PROJECTOR, PROTOTYPES = "projector.safetensors", "prototypes.safetensors"
LARGEST_HALF = torch.finfo(torch.float16).max
PREPROCESSING_KEYS = frozenset(
    {"input_size", "crop_pct", "crop_mode", "interpolation", "mean", "pool_size", "std"}
)
# What else timm knows of a network: the names of two layers, and whether the side of the images is
# part of it.
NETWORK_KEYS = frozenset({"first_conv", "classifier", "fixed_input_size"})


@dataclass(frozen=True)
class ModelFolder:
    """A model folder whose config.json was checked; every other file is checked against its sum
    when it is read.
    """

    path: Path
    config: dict[str, Any]
    sums: dict[str, str]
    """File name to sha256. A folder that timm saved has none: that of the weights was worked
    out.
    """
    weights: str = WEIGHTS
    """Name of the file with the backbone's tensors."""
    given_name: str = ""
    """What MODEL was, where that is more than a path."""
    registered: bool = False
    """Whether `config` is an entry of timm's registry, named `given_name`, and the folder only
    holds the weights.
    """

    @property
    def name(self) -> str:
        """Under which tables note it."""
        return self.given_name or str(self.facts.get("name") or self.path.resolve().name)

    @property
    def architecture(self) -> str:
        """timm's own name, such as `resnet18`, or ours, such as `pauc_resnet18_cifar`."""
        return str(self.config["architecture"])

    @property
    def num_features(self) -> int:
        """Width of the backbone space."""
        return int(self.config["num_features"])

    @property
    def preprocessing_config(self) -> dict[str, Any]:
        """The pretrained_cfg of timm: input_size, crop_pct, interpolation, mean, std, …"""
        return dict(self.config["pretrained_cfg"])

    @property
    def image_size(self) -> int:
        """Side of the square that the network was trained with, in pixels; timm's own default where
        it is not told.
        """
        return int((self.preprocessing_config.get("input_size") or (3, 224, 224))[-1])

    @property
    def model_args(self) -> dict[str, Any]:
        """How the network was built, where timm had to be told: `img_size`, `num_classes`, …"""
        return dict(self.config.get("model_args") or {})

    @property
    def pauc(self) -> dict[str, Any]:
        """What only this project knows: format_version, objective, dim, clusters, resolution; empty
        for others.
        """
        return dict(self.config.get("pauc") or {})

    @property
    def weights_sha256(self) -> str:
        """In hexadecimal digits; compared with the file when the backbone is read."""
        return expected_sum(self.path / self.weights, self.sums)

    @property
    def facts(self) -> dict[str, Any]:
        """The receipts; empty where there are none."""
        return _parse_json(self._read(FACTS), self.path / FACTS) if self._has(FACTS) else {}

    def read_backbone(self) -> dict[str, Tensor]:
        """The backbone's tensors under timm's names, in the precision they were stored in; maybe a
        classifier's too.
        """
        return self._read_tensors(self.weights)

    def read_projector(self) -> dict[str, Tensor] | None:
        """The projection head's tensors, or None where the folder has no head."""
        return self._read_tensors(PROJECTOR) if self._has(PROJECTOR) else None

    def read_prototypes(self) -> tuple[Prototypes, ...]:
        """One entry a clustering, in the order they were written; float32 however they were
        stored.
        """
        if not self._has(PROTOTYPES):
            return ()
        tensors = {
            k: v.float() if v.is_floating_point() else v
            for k, v in self._read_tensors(PROTOTYPES).items()
        }
        # a file without any is refused
        count = max(1, sum(name.startswith("prototypes.") for name in tensors))
        try:
            return tuple(_clustering(tensors, m) for m in range(count))
        except (KeyError, ValueError) as error:
            raise ModelFolderError(
                f"'{self.path / PROTOTYPES}' holds no usable prototypes ({error})."
            ) from error

    def read_calibration(self) -> Calibration | None:
        """What images that were not trained on tell about the prototypes; None where none were kept
        for that.
        """
        if not self._has(PROTOTYPES):
            return None
        data = self._read(PROTOTYPES)
        try:
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            about = json.loads(header.get("__metadata__", {}).get(METADATA_KEY, "{}")).get(
                "calibration"
            )
            if about is None:
                return None
            return Calibration.from_dict(about, safetensors.torch.load(data)[SCORES])
        except (AttributeError, KeyError, TypeError, ValueError, SafetensorError) as error:
            raise ModelFolderError(
                f"'{self.path / PROTOTYPES}' holds no usable calibration ({error})."
            ) from error

    def verify(self, *names: str) -> None:
        """Compare files with their sums, all of them unless some are named; `sha256sum -c` says the
        same.

        Raises:
            ModelFolderError: a file is missing, damaged, or has no sum.
        """
        for name in names or self.sums:
            self._read(name)

    def _has(self, name: str) -> bool:
        return name in self.sums or (self.path / name).exists()

    def _read(self, name: str) -> bytes:
        return read_checked(self.path / name, self.sums)

    def _read_tensors(self, name: str) -> dict[str, Tensor]:
        data = self._read(name)
        try:
            if name.endswith(".safetensors"):
                return safetensors.torch.load(data)
            tensors: dict[str, Tensor] = torch.load(
                io.BytesIO(data), map_location="cpu", weights_only=True
            )
            return tensors
        except SafetensorError as error:
            raise ModelFolderError(
                f"'{self.path / name}' is no safetensors file ({error})."
            ) from error
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            reason = str(error).partition("\n")[0][:100]
            raise ModelFolderError(
                f"'{self.path / name}' is no file of weights ({reason})."
            ) from error


def open_folder(path: Path | str) -> ModelFolder:
    """Check that `path` is a model folder, of this format or saved by timm; large files are checked
    when they are read.

    Raises:
        ModelFolderError: no such folder, a file is missing, config.json is damaged, or the format
            is another.
    """
    path = Path(path).expanduser()
    if not path.is_dir():
        raise ModelFolderError(
            f"'{path}' is no folder. A model folder holds {CONFIG} and {WEIGHTS}."
        )
    weights = next((name for name in WEIGHT_FILES if (path / name).is_file()), None)
    parts = {CONFIG: (path / CONFIG).is_file(), WEIGHTS: weights is not None}
    if missing := [name for name, there in parts.items() if not there]:
        raise ModelFolderError(f"'{path}' is no model folder: it has no {', no '.join(missing)}.")
    sums = read_sums(path) if (path / SUMS).is_file() else {}
    data = read_checked(path / CONFIG, sums) if sums else read_bytes(path / CONFIG)
    config = _parse_json(data, path / CONFIG)
    if "pauc" in config:
        _check_config(config, path / CONFIG)
        if not sums:
            raise ModelFolderError(
                f"'{path}' is an incomplete model folder: it has no {SUMS}. Fetch it again."
            )
        return ModelFolder(path, config, sums)
    assert weights is not None
    return ModelFolder(
        path, check_foreign(config, path / CONFIG), {weights: file_sum(path / weights)}, weights
    )


def check_foreign(config: dict[str, Any], path: Path | str) -> dict[str, Any]:
    """The configuration of a folder that timm saved; long ago it had one level only.

    Args:
        path: for messages.

    Raises:
        ModelFolderError: it is something else's configuration.
    """
    config = config if "pretrained_cfg" in config else {**config, "pretrained_cfg": config}
    if not isinstance(config.get("architecture"), str) or not isinstance(
        config["pretrained_cfg"], dict
    ):
        raise ModelFolderError(
            f"'{path}' names no architecture of timm's. "
            "A model folder is what `pauc train` or timm's save_for_hf writes."
        )
    return config


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
    files[CONFIG] = _to_json(
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
    if not all((path / name).is_file() for name in (CONFIG, SUMS)):
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
        "pauc": {"format_version": FORMAT_VERSION, **pauc},
    }


def _check_config(config: dict[str, Any], path: Path) -> None:
    expected = {"architecture": str, "num_features": int, "pretrained_cfg": dict, "pauc": dict}
    if wrong := [key for key, kind in expected.items() if not isinstance(config.get(key), kind)]:
        raise ModelFolderError(
            f"'{path}' has no usable {', '.join(wrong)}. Was it written by pauc-hub?"
        )
    if (version := config["pauc"].get("format_version")) != FORMAT_VERSION:
        raise ModelFolderError(
            f"'{path}' is of format {version}, but this pauc-hub reads {FORMAT_VERSION}. "
            "Upgrade it."
        )


def _prototypes_file(
    prototypes: Sequence[Prototypes], calibration: Calibration | None, half: bool
) -> bytes:
    """What pauc_hub/clustering/prototype_set.py says of a file, without an origin, which the folder
    is.
    """
    if calibration is None:
        return _serialise(_flatten(prototypes), half)
    about = {"kind": "model's prototypes", "nested": False, "calibration": calibration.to_dict()}
    tensors = {name: _storable(name, tensor, half) for name, tensor in _flatten(prototypes).items()}
    # in 16 bits a threshold would flag other images than those that it was verified on
    tensors[SCORES] = _storable(SCORES, calibration.scores, half=False)
    return ordered(
        safetensors.torch.save(tensors, metadata={"format": "pt", METADATA_KEY: json.dumps(about)})
    )


def _flatten(prototypes: Sequence[Prototypes]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for m, clustering in enumerate(prototypes):
        tensors[f"prototypes.{m}"] = clustering.centroids
        tensors[f"concentrations.{m}"] = clustering.concentrations
        tensors[f"sizes.{m}"] = clustering.sizes
        tensors[f"radius.{m}"] = clustering.radius
        if clustering.parents is not None:
            tensors[f"parents.{m}"] = clustering.parents
    return tensors


def _clustering(tensors: Mapping[str, Tensor], m: int) -> Prototypes:
    return Prototypes(
        centroids=tensors[f"prototypes.{m}"],
        concentrations=tensors[f"concentrations.{m}"],
        sizes=tensors[f"sizes.{m}"],
        radius=tensors[f"radius.{m}"],
        parents=tensors.get(f"parents.{m}"),
    )


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


def _parse_json(data: bytes, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError as error:  # what is not UTF-8 as well
        raise ModelFolderError(f"'{path}' is not JSON ({error}).") from error
    if not isinstance(value, dict):
        raise ModelFolderError(f"'{path}' is not a JSON object but a {type(value).__name__}.")
    return value
