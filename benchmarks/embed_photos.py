"""How fast are photographs embedded on this machine, and how far is that from what the network
alone would allow?

    python benchmarks/embed_photos.py photos/ --architecture resnet50
    python benchmarks/embed_photos.py photos/ --architecture vit_small_patch16_224
    python benchmarks/embed_photos.py photos/ --architecture convnext_tiny

Each repetition runs, one after the other: `import torch, timm` (the bar for starting up), `pauc
embed` of one photograph, `pauc embed` of all as a whole process, then in this process the forward
pass alone and the decoding alone. Weights are random: they do not change the speed. Without a
folder, photo-like JPEGs of 500 x 375 are made.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import machine, medians, pauc_embed, random_model, result_path, watch, write_result
from PIL import Image

import pauc_hub
from pauc_hub.device import autocast, keep_freed_memory
from pauc_hub.images.decoding import read_image, read_with
from pauc_hub.images.jpeg import decode
from pauc_hub.processes import default_workers
from pauc_hub.sources.folders import find_images
from pauc_hub.threads import decode_ahead

BATCH = 32  # the default on a CPU
NVJPEG_BATCH = 256  # files that the GPU's decoder is given at once


def photo_like(path: Path, seed: int) -> None:
    """Large soft shapes, some texture and a little noise: about 50 KB as JPEG."""
    draws = np.random.default_rng(seed)
    picture = np.zeros((375, 500, 3))
    for cells, strength in ((4, 90.0), (24, 40.0), (120, 18.0), (375, 6.0)):
        coarse = Image.fromarray(draws.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        picture += strength * (
            np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC)) / 127.5 - 1
        )
    Image.fromarray(np.clip(picture + 128, 0, 255).astype(np.uint8)).save(path, quality=90)


def gather(folder: Path | None, count: int, target: Path) -> Path:
    """`count` names in `target`, which lead to the photographs in turn."""
    target.mkdir()
    if folder is None:
        for i in range(min(count, 120)):
            photo_like(target.parent / f"{i}.jpg", seed=i)
    photos = sorted(folder.rglob("*.jp*g") if folder else target.parent.glob("*.jpg"))
    for i, photo in enumerate(islice(cycle(photos), count)):
        (target / f"{i:06d}.jpg").symlink_to(photo.resolve())
    return target


def per_second(count: int, work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return count / (time.monotonic() - started)


def forward_rate(model: pauc_hub.Model, batches: int) -> float:
    """Of the network alone: no decoding, no normalisation."""
    squares = torch.randint(
        0, 256, (BATCH, model.preprocessing.size, model.preprocessing.size, 3), dtype=torch.uint8
    )
    pixels = model.preprocessing.normalise(squares.to(model.device), model.dtype)

    def forward(times: int) -> None:
        for _ in range(times):
            features = model.network(pixels)
        features.sum().item()  # a GPU is done only when it has to say something

    with torch.inference_mode(), autocast(model.device, model.dtype):
        forward(1)
        return per_second(BATCH * batches, lambda: forward(batches))


def decode_rate(model: pauc_hub.Model, folder: Path) -> float:
    """Files to squares, with the threads that `pauc embed` has."""
    images, preprocessing = find_images(folder), model.preprocessing

    def square(path: Path) -> object:
        if model.precision == "fp32":
            return preprocessing.square(read_image(path))
        read = read_with(decode, path)
        return (
            preprocessing.square(read)
            if isinstance(read, Image.Image)
            else preprocessing.quick_square(read)
        )

    paths = [image.path for image in images]
    return per_second(
        len(images), lambda: [None for _ in decode_ahead(square, paths, None, 2 * BATCH)]
    )


def nvjpeg_rate(folder: Path, device: torch.device) -> float:
    """Files to bytes on the GPU by its own decoder, which `pauc embed` would need if it beat the
    cores' threads.
    """
    from torchvision.io import decode_jpeg, read_file

    files = [read_file(str(image.path)) for image in find_images(folder)]

    def decode_all() -> None:
        for start in range(0, len(files), NVJPEG_BATCH):
            decode_jpeg(files[start : start + NVJPEG_BATCH], device=device)
        torch.cuda.synchronize(device)

    decode_jpeg(files[:1], device=device)  # makes the decoder
    return per_second(len(files), decode_all)


def repetition(model: pauc_hub.Model, photos: Path, room: Path) -> dict[str, float]:
    """Everything once; seconds, MiB, and images per second."""
    options = ("--precision", model.precision, "--batch-size", str(BATCH))
    embed = partial(pauc_embed, model=model.folder.path, device=str(model.device))
    importing = watch(sys.executable, "-c", "import torch, timm")
    one = watch(*embed(photos / "000000.jpg", *options, output=room / "one.parquet"))
    every = watch(*embed(photos, *options, output=room / "all.parquet"))
    told = json.loads(every.stdout)
    on_gpu = (
        {"nvjpeg_rate": nvjpeg_rate(photos, model.device)} if model.device.type == "cuda" else {}
    )
    return on_gpu | {
        "import_torch_timm_seconds": importing.seconds,
        "one_image_seconds": one.seconds,
        "whole_process_seconds": every.seconds,
        "whole_process_rate": told["images"] / every.seconds,
        "after_start_rate": told["images"] / told["seconds"],
        "peak_mib": every.peak_mib,
        "forward_rate": forward_rate(model, batches=max(1, told["images"] // BATCH // 4)),
        "decode_rate": decode_rate(model, photos),
    }


def summarise(repetitions: list[dict[str, float]], device: torch.device) -> dict[str, float]:
    """Medians, and what follows from them."""
    middle = medians(repetitions)
    forward, decoding, reached = (
        middle[f"{what}_rate"] for what in ("forward", "decode", "after_start")
    )
    share_cores = device.type == "cpu"
    within_reach = 1 / (1 / forward + 1 / decoding) if share_cores else min(forward, decoding)
    return middle | {
        "share_of_forward": reached / forward,
        # 1: no core ever waits, or the GPU never
        "share_of_forward_with_decoding": reached / within_reach,
        "one_image_over_import": middle["one_image_seconds"] / middle["import_torch_timm_seconds"],
    }


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        room = Path(name)
        folder = random_model(room / "model", arguments.architecture, arguments.size)
        photos = gather(arguments.folder, arguments.count, room / "photos")
        model = pauc_hub.load(folder, device=arguments.device, precision=arguments.precision)
        runs = [repetition(model, photos, room) for _ in range(arguments.repetitions)]
    return {
        "question": (
            "How fast are photographs embedded, and how far is that from the network alone?"
        ),
        "command": command(arguments),
        "settings": {
            "photos": "given" if arguments.folder else "generated",
            "count": arguments.count,
            "architecture": arguments.architecture,
            "size": arguments.size,
            "precision": model.precision,
            "device": str(model.device),
            "batch_size": BATCH,
            "network_threads": torch.get_num_threads(),
            "decode_threads": default_workers(),
        },
        "medians": summarise(runs, model.device),
        "repetitions": runs,
        **machine(model.device),
    }


def command(arguments: argparse.Namespace) -> str:
    """How to do this again; where the photographs lie is nobody's business."""
    options = ("count", "architecture", "size", "precision", "device", "repetitions")
    words = ["photos/"] * bool(arguments.folder) + [
        f"--{name} {getattr(arguments, name)}" for name in options
    ]
    return f"python benchmarks/embed_photos.py {' '.join(words)}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        help="JPEGs of any nesting; taken in turn until there are enough",
    )
    parser.add_argument("--count", type=int, default=960, help="photographs to embed")
    parser.add_argument("--architecture", default="resnet50")
    parser.add_argument("--size", type=int, default=224, help="side of the square, in pixels")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path, help="where to, unless to benchmarks/results")
    arguments = parser.parse_args()
    keep_freed_memory()
    result = measure(arguments)
    question = f"embed-photos-{arguments.architecture}"
    output = arguments.output or result_path(question, torch.device(arguments.device))
    write_result(output, result, ("medians",))


if __name__ == "__main__":
    main()
