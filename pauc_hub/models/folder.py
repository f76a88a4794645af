"""The model folder: weights, prototypes and receipts in files that timm and coreutils read too
(architecture.md).

Folders that timm saved, without receipts and sums, are read as well.
"""

import io
import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from pauc_hub.clustering.prototype_set import SCORES, Calibration, levels_of
from pauc_hub.clustering.prototypes import Prototypes
from pauc_hub.errors import ModelFolderError
from pauc_hub.files.artefact import METADATA_KEY
from pauc_hub.files.checksums import (
    SUMS,
    expected_sum,
    file_sum,
    read_bytes,
    read_checked,
    read_sums,
)

MODEL_FORMAT = 1
MODEL_CONFIG = "config.json"
WEIGHTS = "model.safetensors"
PROJECTOR = "projector.safetensors"
PROTOTYPES = "prototypes.safetensors"
FACTS = "facts.json"
CARD = "README.md"
# The picture of a run's curves, which the card shows.
CURVES = "curves.png"
# Where the weights are, in timm's order of preference; the pickled ones are read as weights alone.
WEIGHT_FILES = (WEIGHTS, "pytorch_model.bin")


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
            name: tensor.float() if tensor.is_floating_point() else tensor
            for name, tensor in self._read_tensors(PROTOTYPES).items()
        }
        try:
            return levels_of(tensors)
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
            metadata = json.loads(header.get("__metadata__", {}).get(METADATA_KEY, "{}"))
            about = metadata.get("calibration")
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
            f"'{path}' is no folder. A model folder holds {MODEL_CONFIG} and {WEIGHTS}."
        )
    weights = next((name for name in WEIGHT_FILES if (path / name).is_file()), None)
    parts = {MODEL_CONFIG: (path / MODEL_CONFIG).is_file(), WEIGHTS: weights is not None}
    if missing := [name for name, there in parts.items() if not there]:
        raise ModelFolderError(f"'{path}' is no model folder: it has no {', no '.join(missing)}.")
    sums = read_sums(path) if (path / SUMS).is_file() else {}
    data = read_checked(path / MODEL_CONFIG, sums) if sums else read_bytes(path / MODEL_CONFIG)
    config = _parse_json(data, path / MODEL_CONFIG)
    if "pauc" in config:
        _check_config(config, path / MODEL_CONFIG)
        if not sums:
            raise ModelFolderError(
                f"'{path}' is an incomplete model folder: it has no {SUMS}. Fetch it again."
            )
        return ModelFolder(path, config, sums)
    assert weights is not None
    foreign = check_foreign(config, path / MODEL_CONFIG)
    return ModelFolder(path, foreign, {weights: file_sum(path / weights)}, weights)


def check_foreign(config: dict[str, Any], path: Path | str) -> dict[str, Any]:
    """The configuration of a folder that timm saved; long ago it had one level only.

    Args:
        path: for messages.

    Raises:
        ModelFolderError: it is something else's configuration.
    """
    config = config if "pretrained_cfg" in config else {**config, "pretrained_cfg": config}
    named = isinstance(config.get("architecture"), str)
    if not named or not isinstance(config["pretrained_cfg"], dict):
        raise ModelFolderError(
            f"'{path}' names no architecture of timm's. "
            "A model folder is what `pauc train` or timm's save_for_hf writes."
        )
    return config


def _check_config(config: dict[str, Any], path: Path) -> None:
    expected = {"architecture": str, "num_features": int, "pretrained_cfg": dict, "pauc": dict}
    if wrong := [key for key, kind in expected.items() if not isinstance(config.get(key), kind)]:
        raise ModelFolderError(
            f"'{path}' has no usable {', '.join(wrong)}. Was it written by pauc-hub?"
        )
    if (version := config["pauc"].get("format_version")) != MODEL_FORMAT:
        raise ModelFolderError(
            f"'{path}' is of format {version}, but this pauc-hub reads {MODEL_FORMAT}. Upgrade it."
        )


def _parse_json(data: bytes, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError as error:  # what is not UTF-8 as well
        raise ModelFolderError(f"'{path}' is not JSON ({error}).") from error
    if not isinstance(value, dict):
        raise ModelFolderError(f"'{path}' is not a JSON object but a {type(value).__name__}.")
    return value
