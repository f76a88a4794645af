"""The function behind `pauc convert`: another project's checkpoint to a model folder."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import pauc_hub
from pauc_hub.clustering.prototypes import Prototypes
from pauc_hub.errors import ModelFolderError, OutputExists, UsageError
from pauc_hub.files.checksums import file_sum
from pauc_hub.hub.convert.card import render_converted
from pauc_hub.hub.convert.formats import (
    CHECKPOINT_FORMATS,
    Format,
    recognise_format,
)
from pauc_hub.hub.convert.heads import read_projector
from pauc_hub.hub.convert.networks import recognise_network
from pauc_hub.hub.convert.published import PUBLISHED
from pauc_hub.hub.convert.reading import read_checkpoint
from pauc_hub.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from pauc_hub.models.timm_import import import_timm
from pauc_hub.models.write_folder import write_folder

SWAV_TEMPERATURE = 0.1  # of its softmax over prototypes; they have no concentrations of their own


@dataclass(frozen=True)
class Converted:
    """What convert() did."""

    output: Path
    format: str
    architecture: str
    width: int
    projector: bool
    prototypes: int
    """K, or 0 where the checkpoint has none."""
    dropped: tuple[str, ...]
    """Keys that the format knows and a backbone does not need."""
    strangers: tuple[str, ...]
    """Keys that the format does not know; they were left out."""
    sha256: str
    """Of the checkpoint."""


@dataclass(frozen=True)
class _Parts:
    """A checkpoint, sorted by its format."""

    backbone: dict[str, Tensor]
    head: dict[str, Tensor]
    prototypes: Tensor | None
    dropped: tuple[str, ...]
    strangers: tuple[str, ...]


def convert(
    checkpoint: str | Path,
    output: str | Path,
    *,
    format: str = "auto",  # noqa: A002 -- the word that the command line has
    architecture: str | None = None,
    licence: str | None = None,
    image_size: int = 224,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    overwrite: bool = False,
    quiet: bool = False,
    command: str = "",
) -> Converted:
    """Write another project's checkpoint as a model folder.

        >>> convert("PCL_v2_epoch200.pth.tar", "pcl_v2", licence="MIT").architecture
        'resnet50'

    Args:
        checkpoint: a file, or the name of one that its authors publish, such as `pcl-v2`, which is
            downloaded.
        output: the model folder.
        format: `auto` recognises it by its keys; or a name of formats.FORMATS.
        architecture: timm's name of the network; recognised for ResNets and ViTs unless given.
        licence: of the weights, such as `MIT`; needed where the format has no published one.
        image_size: side of the images that the network was trained for, pixels.
        mean, std: of the channels, in [0, 1].
        overwrite: replace a model folder that is there.
        quiet: no progress bar for a download.
        command: what was typed, for the receipts.

    Raises:
        UsageError: an unknown format, no such file, or a licence that has to be given.
        ModelFolderError: the file is no checkpoint, or its weights do not fit the network.
        OutputExists: something stands there that may not be replaced.
    """
    place = Path(output)
    if place.exists() and not overwrite:
        raise OutputExists(f"'{place}' exists. Name another place, or give overwrite=True.")
    if format != "auto" and format not in {known.name for known in CHECKPOINT_FORMATS}:
        names = ", ".join(known.name for known in CHECKPOINT_FORMATS)
        raise UsageError(f"format={format} is unknown. Use auto, {names}.")
    with tempfile.TemporaryDirectory() as scratch:
        published = PUBLISHED.get(str(checkpoint)) if not Path(checkpoint).exists() else None
        file = _download(published.url, Path(scratch), quiet) if published else _file(checkpoint)
        tensors, digest = read_checkpoint(file), file_sum(file)
    found = _format(published.format if published else format, tensors)
    terms = licence or (published.licence if published else found.licence)
    if terms is None:
        raise UsageError(
            f"a {found.name} checkpoint does not say under which licence its weights are. Give "
            "it: licence=MIT, say."
        )
    parts = _sort(tensors, found)
    network = architecture or _network(parts.backbone, tensors, found)
    facts = {
        "name": place.resolve().name,
        "architecture": network,
        "converted": {
            "format": found.name,
            "layout": found.source,
            "file": published.url if published else file.name,
            "sha256": digest,
            "dropped": list(parts.dropped),
            "strangers": list(parts.strangers),
        },
        "license": terms,
        "terms": published.terms if published else "",
        "command": command,
        "versions": {"pauc-hub": pauc_hub.__version__}
        | {name: version(name) for name in ("torch", "timm")},
        "scores": [],
    }
    return _write(place, network, parts, found, facts, image_size, mean, std, overwrite)


def _write(
    place: Path,
    network: str,
    parts: _Parts,
    found: Format,
    facts: dict[str, Any],
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    overwrite: bool,
) -> Converted:
    backbone = _fitted(network, parts.backbone, image_size)
    cfg: Mapping[str, Any] = backbone.pretrained_cfg
    projector = read_projector(parts.head, backbone.num_features) if parts.head else None
    prototypes = _prototypes(parts.prototypes, projector)
    dim = len(projector["output.weight"]) if projector else 0
    write_folder(
        place,
        architecture=network,
        backbone=backbone.state_dict(),
        num_features=backbone.num_features,
        preprocessing={
            "input_size": [3, image_size, image_size],
            "crop_pct": found.crop_pct,
            "crop_mode": "center",
            "interpolation": found.interpolation,
            "mean": list(mean),
            "std": list(std),
            "first_conv": cfg["first_conv"],
            "classifier": cfg["classifier"],
        },
        model_args=None if cfg.get("pool_size") else {"img_size": image_size},
        pauc={
            "objective": found.name,
            "dim": dim,
            "clusters": [len(each.sizes) for each in prototypes],
            "resolution": image_size,
        },
        projector=projector,
        prototypes=prototypes,
        facts=facts,
        card=render_converted(facts, projector=projector is not None, prototypes=bool(prototypes)),
        half=False,
        overwrite=overwrite,
    )
    return Converted(
        output=place,
        format=found.name,
        architecture=network,
        width=backbone.num_features,
        projector=projector is not None,
        prototypes=len(prototypes[0].sizes) if prototypes else 0,
        dropped=parts.dropped,
        strangers=parts.strangers,
        sha256=facts["converted"]["sha256"],
    )


def _file(checkpoint: str | Path) -> Path:
    file = Path(checkpoint).expanduser()
    if not file.is_file():
        names = ", ".join(PUBLISHED)
        raise UsageError(
            f"'{checkpoint}' is neither a file nor a checkpoint known by name: {names}."
        )
    return file


def _download(url: str, folder: Path, quiet: bool) -> Path:
    """The file behind an address, whole or not at all."""
    file = folder / url.rpartition("/")[2]
    try:
        torch.hub.download_url_to_file(url, str(file), progress=not quiet)
    except OSError as error:
        raise UsageError(
            f"'{url}' cannot be fetched ({error}). Fetch it by other means, and give the file."
        ) from error
    return file


def _format(name: str, tensors: Mapping[str, Tensor]) -> Format:
    if name == "auto":
        return recognise_format(tensors)
    found = next(known for known in CHECKPOINT_FORMATS if known.name == name)
    if not any(key.startswith(found.backbone) for key in tensors):
        raise ModelFolderError(
            f"the checkpoint has no key that begins with '{found.backbone}', as {name}'s have; "
            f"it has '{next(iter(tensors))}'. Leave format out to have it recognised."
        )
    return found


def _network(backbone: Mapping[str, Tensor], tensors: Mapping[str, Tensor], found: Format) -> str:
    """Of the backbone; where there is none that is known, another format may be the reason."""
    try:
        return recognise_network(backbone)
    except ModelFolderError as error:
        if (other := recognise_format(tensors)).name == found.name:
            raise
        raise ModelFolderError(
            f"the checkpoint is not of format {found.name}: its keys are those of {other.name}. "
            "Leave format out."
        ) from error


def _sort(tensors: Mapping[str, Tensor], found: Format) -> _Parts:
    """Every key in its place: nothing is left out in silence."""
    backbone: dict[str, Tensor] = {}
    head: dict[str, Tensor] = {}
    prototypes: Tensor | None = None
    dropped: list[str] = []
    strangers: list[str] = []
    for key, value in tensors.items():
        if key in found.prototypes:
            prototypes = value
        elif found.head and key.startswith(found.head):
            head[key.removeprefix(found.head)] = value
        elif key.startswith(found.ignored):
            dropped.append(key)
        elif key.startswith(found.backbone):
            backbone[_renamed(key.removeprefix(found.backbone), found)] = value
        else:
            strangers.append(key)
    return _Parts(backbone, head, prototypes, tuple(dropped), tuple(strangers))


def _renamed(key: str, found: Format) -> str:
    return next(
        (new + key.removeprefix(old) for old, new in found.renamed if key.startswith(old)), key
    )


def _fitted(network: str, weights: Mapping[str, Tensor], image_size: int) -> Any:
    """timm's network with exactly these weights.

    Raises:
        UsageError: timm does not know the network.
        ModelFolderError: a weight is missing, has another shape, or is one too many.
    """
    timm = import_timm()
    if not timm.is_model(network):
        raise UsageError(
            f"architecture={network} is no network of timm's. `pauc models --timm '*'` lists them."
        )
    cfg = timm.get_pretrained_cfg(network)
    options = {} if cfg is None or cfg.pool_size else {"img_size": image_size}
    backbone = timm.create_model(network, num_classes=0, **options)
    expected = backbone.state_dict()
    missing = [
        key for key in expected if key not in weights and not key.endswith("num_batches_tracked")
    ]
    shapes = [
        key for key in weights if key in expected and weights[key].shape != expected[key].shape
    ]
    extra = [key for key in weights if key not in expected]
    for problem, keys in (
        ("lacks", missing),
        ("has another shape of", shapes),
        ("has besides", extra),
    ):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise ModelFolderError(
                f"the checkpoint does not fit {network}: it {problem} {', '.join(keys[:3])}{more}. "
                "Name another architecture or format."
            )
    backbone.load_state_dict(
        {key: value.to(expected[key].dtype) for key, value in weights.items()}, strict=False
    )
    return backbone.eval()


def _prototypes(rows: Tensor | None, projector: Mapping[str, Tensor] | None) -> list[Prototypes]:
    """The one clustering, if its prototypes lie in the projector's space."""
    if rows is None or projector is None or rows.shape[1] != len(projector["output.weight"]):
        return []
    count = len(rows)
    return [
        Prototypes(
            centroids=F.normalize(rows.float(), dim=1),
            concentrations=torch.full((count,), SWAV_TEMPERATURE),
            # How many images each has is not in the checkpoint.
            sizes=torch.zeros(count, dtype=torch.int64),
            radius=torch.zeros(count),
        )
    ]
