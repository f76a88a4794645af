"""How fast are photographs embedded, beside what people use for it, on this machine and in one run?

    python benchmarks/embed_against_peers.py photos.parquet --peers-venv ~/.cache/pauc-peers

ResNet-50 with random weights (they do not change the speed), 224 pixels, each tool as a whole
process with its own defaults: `pauc embed`; `lightly-train embed`; peers/plain.py, the script one
writes; peers/timm_inference.py, timm's inference.py. The repetitions are interleaved: each goes
through all tools, with one photograph and then with all. The peers live in an environment of their
own, made at first use from peers/requirements.txt. Stopped, the same command goes on where it was.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from measuring import (
    CPU,
    Journal,
    ceilings,
    machine,
    medians,
    pauc_embed,
    random_model,
    result_path,
    slug,
    watch,
    write_result,
)
from peer_venv import PEERS, peer_environment, peer_versions, peers_venv

from pauc_hub.device import has_native_bf16

PEERS_PACKAGES = (
    "lightly-train",
    "torch",
    "torchvision",
    "timm",
    "pillow",
    "pytorch-lightning",
    "albumentations",
)
WIDTH, SIZE = 2048, 224
GFLOP = 8.2  # of one photograph through ResNet-50 at 224: 4.1 billion multiplications and additions
PAUC = "pauc embed"
BARE = "import torch, timm"


@dataclass(frozen=True)
class Tool:
    name: str
    command: Callable[[Path, Path], list[str]]
    """Of the folder of photographs and the output."""
    suffix: str
    """Of the output."""
    environment: dict[str, str]
    settings: str


def pauc_tool(model: Path, options: str) -> Tool:
    def command(photos: Path, output: Path) -> list[str]:
        return pauc_embed(photos, *options.split(), model=model, output=output)

    return Tool(
        f"{PAUC} {options}".strip(),
        command,
        ".parquet",
        dict(os.environ),
        f"defaults {options}".strip(),
    )


def peer_tools(venv: Path, checkpoint: Path) -> list[Tool]:
    environment = peer_environment()

    def script(name: str, *options: str) -> Callable[[Path, Path], list[str]]:
        return lambda photos, output: [
            str(venv / "bin/python"),
            str(PEERS / name),
            str(photos),
            str(output),
            *options,
        ]

    def lightly(*options: str) -> Callable[[Path, Path], list[str]]:
        command = [
            str(venv / "bin/lightly-train"),
            "embed",
            f"checkpoint={checkpoint}",
            "accelerator=cpu",
            *options,
        ]
        return lambda photos, output: [*command, f"data={photos}", f"out={output}"]

    squashed = "batches of 128, a worker for each core but one, squashed to 224 x 224"
    timm = "batches of 256, 2 workers"
    peers = (
        ("lightly-train embed", lightly(), ".pt", f"defaults: fp32, {squashed}"),
        (
            "lightly-train embed bf16",
            lightly("precision=bf16-mixed"),
            ".pt",
            f"bf16-mixed, {squashed}",
        ),
        ("plain script", script("plain.py"), ".npy", "fp32, batches of 64, a worker for each core"),
        ("timm inference", script("timm_inference.py"), ".npy", f"defaults: fp32, {timm}"),
        (
            "timm inference bf16",
            script("timm_inference.py", "--bf16"),
            ".npy",
            f"bf16 weights, channels_last, {timm}",
        ),
    )
    return [
        Tool(name, command, suffix, environment, settings)
        for name, command, suffix, settings in peers
        if has_native_bf16(CPU) or "bf16" not in name  # emulated, it takes hours
    ]


def gather(source: Path, count: int, room: Path) -> tuple[Path, Path]:
    """A folder of `count` files, the photographs in turn (hard links), and one of the first
    photograph alone.
    """
    originals, photos, one = (room / name for name in ("originals", "photos", "one"))
    for folder in (originals, photos, one):
        folder.mkdir()
    for i, data in enumerate(photographs(source)):
        (originals / f"{i:06d}.jpg").write_bytes(data)
    paths = sorted(originals.iterdir())
    for i, path in enumerate(islice(cycle(paths), count)):
        (photos / f"{i:06d}.jpg").hardlink_to(path)
    (one / "000000.jpg").hardlink_to(paths[0])
    return photos, one


def photographs(source: Path) -> list[bytes]:
    """The bytes of all JPEGs in a folder, or of the column `image` of a Parquet file (Hugging
    Face's layout).
    """
    if source.is_dir():
        found = [path.read_bytes() for path in sorted(source.rglob("*.jp*g"))]
    else:
        found = [
            row["bytes"] for row in pq.read_table(source, columns=["image"])["image"].to_pylist()
        ]
    if not found:
        raise SystemExit(f"no photographs in {source}")
    return found


def shape(output: Path) -> tuple[int, ...]:
    """Of the embeddings that a tool has left."""
    match output.suffix:
        case ".parquet":
            table = pq.read_table(output, columns=["embedding"])
            return (table.num_rows, table.schema.field("embedding").type.list_size)
        case ".npy":
            return tuple(np.load(output, mmap_mode="r").shape)
    return tuple(torch.load(output, weights_only=True)["embeddings"].shape)


def run(tool: Tool, photos: Path, count: int, room: Path) -> dict[str, float]:
    output = room / f"{slug(tool.name)}{tool.suffix}"
    output.unlink(missing_ok=True)
    took = watch(*tool.command(photos, output), environment=tool.environment)
    if shape(output) != (count, WIDTH):
        raise SystemExit(
            f"{tool.name} left embeddings of shape {shape(output)}, not {(count, WIDTH)}"
        )
    return took.figures(count)


def bare_import() -> dict[str, float]:
    took = watch(sys.executable, "-c", BARE)
    return {"seconds": took.seconds, "peak_mib": took.peak_mib}


def measure(arguments: argparse.Namespace, journal: Journal) -> dict[str, Any]:
    """Every repetition of every tool, by its name: with one photograph from cold, and with all."""
    with tempfile.TemporaryDirectory() as name:
        room = Path(name)
        photos, one = gather(arguments.photos, arguments.count, room)
        checkpoint = room / "resnet50.ckpt"
        watch(
            str(arguments.peers_venv / "bin/python"),
            str(PEERS / "lightly_checkpoint.py"),
            str(checkpoint),
        )
        model = random_model(room / "model", "resnet50", SIZE)
        tools = [pauc_tool(model, options) for options in arguments.pauc or [""]]
        tools += peer_tools(arguments.peers_venv, checkpoint)
        runs: dict[str, Any] = {part: {tool.name: [] for tool in tools} for part in ("one", "all")}
        runs |= {"ceilings": [], "bare": []}
        for i in range(1, arguments.repetitions + 1):
            runs["ceilings"].append(journal.once(f"{i}: ceilings", ceilings))
            runs["bare"].append(journal.once(f"{i}: {BARE}", bare_import))
            for tool, (part, folder, count) in product(
                tools, (("one", one, 1), ("all", photos, arguments.count))
            ):
                took = journal.once(
                    f"{i}: {tool.name}, {part}", partial(run, tool, folder, count, room)
                )
                runs[part][tool.name].append(took)
    return runs | {"settings": {tool.name: tool.settings for tool in tools}}


def summarise(runs: dict[str, Any]) -> dict[str, Any]:
    """Medians, and what follows from them; the first tool is ours, and ratios say how many times
    better it is.
    """
    top, bare = medians(runs["ceilings"]), medians(runs["bare"])
    one, every = (
        {name: medians(found) for name, found in runs[part].items()} for part in ("one", "all")
    )
    ours, *peers = every
    return {
        "medians": {
            "ceilings": top,
            "bare import": bare,
            "one photograph": one,
            "all photographs": every,
        },
        "ratios": {
            "seconds over ours": {
                peer: every[peer]["seconds"] / every[ours]["seconds"] for peer in peers
            },
            "peak memory over ours": {
                peer: every[peer]["peak_mib"] / every[ours]["peak_mib"] for peer in peers
            },
            "one photograph, seconds over ours": {
                peer: one[peer]["seconds"] / one[ours]["seconds"] for peer in peers
            },
            "one photograph, seconds over the bare import": {
                name: one[name]["seconds"] / bare["seconds"] for name in one
            },
        },
        "how far from the limit": {
            name: limits(every[name], one[name]["seconds"], top) for name in every
        },
    }


def limits(every: dict[str, float], start: float, top: dict[str, float]) -> dict[str, float]:
    """Of the time after starting up: the network's arithmetic beside what bare matrix products
    reach.
    """
    after_start = (
        every["images_per_second"] * every["seconds"] / max(every["seconds"] - start, 1e-9)
    )
    return {
        "images_per_second_after_start": after_start,
        "network_gflops": GFLOP * after_start,
        "cores_busy": every["cores_busy"],
    } | {
        f"share_of_{name.removesuffix('_gflops')}_products": GFLOP * after_start / reached
        for name, reached in top.items()
        if name.endswith("_gflops")
    }


LIMITS = (
    "Where cores_busy is near cores_used, the forward pass is the limit: its arithmetic "
    "(share_of_…_products) "
    "and the memory that activations pass through between layers (copy_gb_per_second). "
    "Decoding and resizing take the "
    "same cores and are not in those shares; files come from the system's cache. Where "
    "cores_busy is lower, "
    "cores wait: for the start, for decoders, for copies between processes. Imports limit one "
    "photograph."
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "photos", type=Path, help="Parquet file with a column `image`, or folder of JPEGs"
    )
    parser.add_argument(
        "--peers-venv", type=Path, required=True, help="made where it is missing; about 6 GB"
    )
    parser.add_argument(
        "--count", type=int, default=960, help="files to embed, the photographs in turn"
    )
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument(
        "--pauc",
        action="append",
        metavar="OPTIONS",
        help="of `pauc embed`; may be given again, all run beside each other",
    )
    parser.add_argument("-o", "--output", type=Path, help="benchmarks/results/… unless given")
    arguments = parser.parse_args()
    arguments.peers_venv = peers_venv(arguments.peers_venv)
    output = arguments.output or result_path("embed-against-peers")
    about = {
        "count": arguments.count,
        "photographs": len(photographs(arguments.photos)),
        "pauc": arguments.pauc or [""],
        **machine(),
        "peers": peer_versions(arguments.peers_venv, PEERS_PACKAGES),
    }
    journal = Journal(output.with_suffix(".unfinished.json"), about)
    runs = measure(arguments, journal)
    result = {
        "question": "How fast are photographs embedded, beside what people use for it?",
        "command": command(arguments),
        **about,
        "tools": runs.pop("settings"),
        **summarise(runs),
        "limits": LIMITS,
        "sittings": journal.sittings,
        "repetitions": {
            "ceilings": runs["ceilings"],
            "bare import": runs["bare"],
            "one photograph": runs["one"],
            "all photographs": runs["all"],
        },
    }
    write_result(output, result, ("medians", "ratios", "how far from the limit"))
    journal.remove()


def command(arguments: argparse.Namespace) -> str:
    """How to do this again; where the photographs lie is nobody's business."""
    words = [f"--count {arguments.count}", f"--repetitions {arguments.repetitions}"]
    words += [f"--pauc '{options}'" for options in arguments.pauc or []]
    return (
        "python benchmarks/embed_against_peers.py photos.parquet --peers-venv peers "
        f"{' '.join(words)}"
    )


if __name__ == "__main__":
    main()
