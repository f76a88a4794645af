"""The function behind `pauc export`: a model as one file for other runtimes, compared before it is
kept.
"""

import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from pauc_hub.answers.assignments import check_place
from pauc_hub.errors import PaucError, UsageError
from pauc_hub.exporting.heads import origin_of, read_answers
from pauc_hub.exporting.making import ONNX, TORCH_EXPORT, WantedExport, make
from pauc_hub.exporting.onnx_file import require_packages
from pauc_hub.exporting.parity import (
    LIMITS,
    Array,
    Parity,
    Run,
    compare_outputs,
    cosines,
    shortfalls,
)
from pauc_hub.exporting.pictures import make_pictures, read_pictures
from pauc_hub.exporting.takes import Takes
from pauc_hub.files.atomic import replacing
from pauc_hub.images.reading import Reading
from pauc_hub.inference.model import SPACES, load
from pauc_hub.models.timm_network import patch_side
from pauc_hub.progress import progress_bar
from pauc_hub.sources import open_source

EXPORT_SUFFIXES = {ONNX: ".onnx", TORCH_EXPORT: ".pt2"}
EXPORT_PRECISIONS = tuple(LIMITS)
EXPORT_FORMAT = 1
BATCH = 32
# Images of both halves, one to calibrate int8 on and one to compare: with fewer, all serve for
# both.
ENOUGH_TO_SPLIT = 64
VERSIONS = {
    ONNX: ("torch", "timm", "onnx", "onnxscript", "onnxruntime"),
    TORCH_EXPORT: ("torch", "timm"),
}
# By which images are made larger where their size is free; in pixels. No network halves them more
# than five times.
FREE_STEP = 32


@dataclass(frozen=True)
class Exported:
    """What export() gives."""

    output: Path
    format: str
    """`onnx` or `torch-export`."""
    model: str
    precision: str
    bytes: int
    """Size of the file."""
    input: dict[str, Any]
    """Name, type, layout, shape and meaning of what it takes."""
    outputs: dict[str, list[int]]
    """Name and shape of what it gives, without the batch."""
    images: str
    """Where the images are from that it was compared on; empty where they were made."""
    unreadable: int
    parity: Parity


def export(
    model: str | Path,
    *,
    onnx: str | Path | None = None,
    torch_export: str | Path | None = None,
    images: str | Path | None = None,
    precision: str = "fp32",
    space: str = "backbone",
    uint8: bool = False,
    prototypes: str | Path | None = None,
    probe: str | Path | None = None,
    image_size: int | None = None,
    dynamic_size: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> Exported:
    """Write a model as one file for other runtimes, after comparing it with the model at batches of
    1, 2 and 7.

        >>> found = export("pauc_resnet18", onnx="r18.onnx", images="photos/", uint8=True)
        >>> found.parity.least_cosine
        0.9999999

    Args:
        model: whatever load() takes.
        onnx: file to write, NAME.onnx; needs the extra `export`.
        torch_export: or this one, NAME.pt2, for torch.export.load().
        images: a folder or another source: what the file is compared on, and int8 calibrated. Made
            pictures unless given, which int8 cannot do with.
        precision: of the network: fp32, fp16 or int8 (ONNX alone). Input and outputs keep their
            types.
        space: of the embedding: `backbone`, or `projection`. As load(model).embed() gives it: the
            former has the length that the network gives it, the latter length 1.
        uint8: take (N, S, S, 3) RGB bytes, and normalise inside; else normalised (N, 3, S, S)
            float32.
        prototypes: a prototypes file, or `model` for those of the model folder: give each image's
            prototype, similarity and, where they are calibrated, confidence.
        probe: a probe file: give each image's class and probabilities.
        image_size: side of the network's input, pixels; the model's own unless given.
        dynamic_size: leave height and width free, where the network allows it.
        overwrite: replace a file that is there.
        quiet: no progress bar.

    Raises:
        UsageError: options that exclude each other, a package that is missing, a network of one
            size only.
        NoImages: there are none, or none can be read.
        OriginMismatch: prototypes or probe were made by another model.
        PaucError: the network cannot be exported, or the file says something else than the model.
            No file is left.
        UnknownModel, MissingWeights, ModelFolderError, HubError: as load() does.
    """
    place, kind = _place(onnx, torch_export, overwrite)
    _check(precision, space, kind, images)
    source = open_source(images) if images else None
    loaded = load(model, device="cpu", precision="fp32", image_size=image_size, quiet=quiet)
    wanted = WantedExport(
        model=loaded,
        takes=Takes(loaded.preprocessing, uint8, dynamic_size),
        answers=read_answers(prototypes, probe, loaded),
        space=space,
        precision=precision,
        kind=kind,
    )
    for needed in sorted(wanted.spaces):
        # refuses a space that the model does not have
        loaded.width_in(needed)
    reading = Reading.from_config(loaded.folder.facts.get("data") or {})
    with progress_bar(4, "exporting", unit="steps", quiet=quiet) as bar:
        if source is not None and images is not None:
            pictures = read_pictures(source, images, loaded, reading)
        else:
            pictures = make_pictures(loaded.preprocessing.size)
        calibration, compared = (
            _split(pictures.squares) if precision == "int8" else (None, pictures.squares)
        )
        bar.advance(1)
        reference = _reference(wanted, compared)
        bar.advance(1)
        file = make(wanted, calibration)
        bar.advance(1)
        run = file.run()
        parity = compare_outputs(run, reference, compared)
        problems = shortfalls(parity, LIMITS[precision]) or _at_another_size(run, wanted, compared)
        bar.advance(1)
    if problems:
        raise PaucError(
            f"'{place}' was not written, for in {precision} it differs from the model: "
            f"{'; '.join(problems)}. "
            f"{_way_out(precision)}"
        )
    outputs = {name: list(values.shape[1:]) for name, values in reference.items()}
    data = file.finished(json.dumps(_facts(wanted, reading, outputs, parity), ensure_ascii=False))
    _write(place, data)
    return Exported(
        output=place,
        format=kind,
        model=loaded.name,
        precision=precision,
        bytes=len(data),
        input=wanted.takes.facts(),
        outputs=outputs,
        images=pictures.source,
        unreadable=pictures.unreadable,
        parity=parity,
    )


def _place(
    onnx: str | Path | None, torch_export: str | Path | None, overwrite: bool
) -> tuple[Path, str]:
    """The file to write, and its format."""
    given = {ONNX: onnx, TORCH_EXPORT: torch_export}
    named = [(Path(place).expanduser(), kind) for kind, place in given.items() if place is not None]
    if len(named) != 1:
        raise UsageError("give one file to write: onnx=FILE.onnx or torch_export=FILE.pt2.")
    place, kind = named[0]
    check_place(place, (EXPORT_SUFFIXES[kind],), overwrite)
    return place, kind


def _check(precision: str, space: str, kind: str, images: str | Path | None) -> None:
    """Raise UsageError for what no model could make good."""
    if precision not in EXPORT_PRECISIONS:
        raise UsageError(f"precision={precision} is not one of {', '.join(EXPORT_PRECISIONS)}.")
    if space not in SPACES:
        raise UsageError(f"space={space} is not one of {', '.join(SPACES)}.")
    if kind == ONNX:
        require_packages()
    if precision == "int8" and kind != ONNX:
        raise UsageError(
            "precision=int8 is for ONNX alone: give onnx=FILE.onnx, or precision=fp16."
        )
    if precision == "int8" and images is None:
        raise UsageError(
            "precision=int8 is calibrated on images: give some like those to embed, images=FOLDER."
        )


def _split(squares: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """To calibrate on, and to compare; the same where they are few."""
    return (squares[::2], squares[1::2]) if len(squares) >= ENOUGH_TO_SPLIT else (squares, squares)


def _reference(wanted: WantedExport, squares: npt.NDArray[np.uint8]) -> dict[str, Array]:
    """What the model itself says of images, under the names of the outputs."""
    model = wanted.model

    def embed(space: str) -> npt.NDArray[np.float32]:
        parts = torch.split(torch.from_numpy(squares), BATCH)
        return np.concatenate([model.encode(part, space).numpy() for part in parts])

    embeddings = {space: embed(space) for space in sorted(wanted.spaces)}
    return {"embedding": embeddings[wanted.space], **wanted.answers.of(embeddings)}


def _at_another_size(run: Run, wanted: WantedExport, squares: npt.NDArray[np.uint8]) -> list[str]:
    """Where height and width are free: what is wrong with the embedding of larger images that are
    not square.
    """
    if not wanted.takes.dynamic_size:
        return []
    model = wanted.model
    patch = patch_side(getattr(model.network, "backbone", model.network))
    step = patch if patch > 1 else FREE_STEP
    height, width = (model.preprocessing.size + times * step for times in (1, 2))
    larger = np.stack(
        [np.array(Image.fromarray(each).resize((width, height))) for each in squares[:2]]
    )
    pixels = Takes(model.preprocessing, uint8=False, dynamic_size=True).feed(larger)
    with torch.inference_mode():
        features = model.network(torch.from_numpy(pixels)).float()
        expected = (
            features
            if wanted.space == "backbone" or model.projector is None
            else model.projector(features)
        )
    try:
        least = float(cosines(run(larger)["embedding"], expected.numpy()).min())
    except Exception as error:
        return [
            f"it does not run at {height} x {width} pixels ({' '.join(str(error).split())[:200]})"
        ]
    limit = LIMITS[wanted.precision].cosine
    return (
        []
        if least >= limit
        else [f"least cosine {least:.6f} at {height} x {width} pixels, limit {limit}"]
    )


def _way_out(precision: str) -> str:
    match precision:
        case "int8":
            return "Give more images like those to embed, images=FOLDER, or use precision=fp16."
        case "fp16":
            return "Use precision=fp32."
        case _:
            return (
                "This is a fault of the exporter: try other versions of torch and onnxscript, "
                "or the other format."
            )


def _facts(
    wanted: WantedExport, reading: Reading, outputs: dict[str, list[int]], parity: Parity
) -> dict[str, Any]:
    """What the file says of itself."""
    model = wanted.model
    origin = origin_of(model, wanted.space).to_dict()
    return {
        "kind": wanted.kind,
        "format_version": EXPORT_FORMAT,
        "origin": {
            **origin,
            "precision": wanted.precision,
            "preprocessing": origin["preprocessing"] | reading.to_config(),
            "package_version": version("pauc-hub"),
        },
        "architecture": model.folder.architecture,
        "input": wanted.takes.facts(),
        "outputs": outputs,
        "normalised": wanted.space == "projection",
        **wanted.answers.facts(),
        "parity": asdict(parity),
        "versions": {name: version(name) for name in VERSIONS[wanted.kind]},
    }


def _write(place: Path, data: bytes) -> None:
    try:
        with replacing(place) as file:
            file.write(data)
    except OSError as error:
        raise PaucError(
            f"'{place}' could not be written ({error.strerror or error}). Name another place."
        ) from error
