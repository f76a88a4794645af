r"""How fast is `pauc train` beside lightly's MoCo benchmark on CIFAR-10, and beside its own network
alone?

    python benchmarks/train_against_lightly.py cifar10-train.parquet \
        --peers-venv ~/.cache/pauc-peers
    python benchmarks/train_against_lightly.py cifar10-train.parquet \
        --peers-venv … --device cuda --steps 97 --epochs 4

Both have the benchmark's published settings (peers/lightly_moco.py): ResNet-18 with a stem for
small images, batches of 512, 8192 keys, a symmetric loss, the same views. Each tool learns from the
same files as a whole process, the repetitions interleaved; epochs after the first count, from their
first wait for images to their last step. Beside them stands the network alone: forward and backward
passes over random batches that lie on the device. On a GPU the objective pauc runs too, with its
E-steps, and compiled encoders. Stopped, the same command goes on where it was.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from embed_against_peers import photographs
from measuring import DTYPES, Journal, ceilings, machine, medians, result_path, watch, write_result
from network_alone import backbone_gflop, network_alone
from peer_venv import PEERS, peer_environment, peer_versions, peers_venv

from pauc_hub.device import choose_precision, keep_freed_memory

PEERS_PACKAGES = ("lightly", "torch", "torchvision", "timm", "pillow", "pytorch-lightning")
LIGHTLY, BANK = "lightly MoCo", 8192
SETTINGS: dict[str, Any] = {
    "objective": "infonce",
    "size": 32,
    "lr": 0.12,  # for a batch of 256: 0.06 for 128 there
    "weight_decay": 5e-4,
    "momentum": 0.99,
    "queue": BANK,
    "temperature": 0.1,
    "symmetric": True,
    "norm_group": 64,  # 8 parts of 512
    "crop_min": 0.08,
    "jitter": [0.4, 0.4, 0.4, 0.1],
    "blur": 0.0,
}
ON_A_GPU: dict[str, dict[str, Any]] = {
    "objective pauc": {"objective": "pauc", "warmup": 0.0},
    "compiled": {"compile": True},
}
CIFAR, RECIPE_EPOCHS = 50_000, 200
QUESTION = (
    "How fast is `pauc train` beside lightly's MoCo benchmark on CIFAR-10, and beside its "
    "network alone?"
)


class Tool(NamedTuple):
    name: str
    measure: Callable[[], dict[str, float]]
    settings: str


def pauc_train(
    folder: Path, room: Path, given: argparse.Namespace, precision: str, **more: Any
) -> dict[str, float]:
    """The command as a process; the figures are those that it wrote into metrics.jsonl."""
    settings = SETTINGS | {
        "architecture": given.architecture,
        "batch_size": given.batch_size,
        "epochs": given.epochs,
    }
    config, run = room / "settings.toml", room / "run"
    lines = [
        f"{name} = {json.dumps(value)}\n"
        for name, value in (settings | more | {"precision": precision}).items()
    ]
    config.write_text("".join(lines), encoding="utf-8")
    words = [
        "train",
        str(folder),
        "-o",
        str(run),
        "--config",
        str(config),
        "--device",
        given.device,
    ]
    took = watch(sys.executable, "-m", "pauc_hub.cli", *words, "--overwrite", "--quiet", "--json")
    metrics = [
        json.loads(line)
        for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    epochs = [
        {"seconds": line["mstep_seconds"], "estep_seconds": line.get("estep_seconds", 0.0)}
        | {
            "images": line["images_per_second"] * line["mstep_seconds"],
            "data_wait": line["data_wait"],
        }
        for line in metrics
        if line["step"] == 0
    ]
    return {"process_seconds": took.seconds, "peak_mib": took.peak_mib} | figures(epochs)


def lightly(folder: Path, venv: Path, given: argparse.Namespace) -> dict[str, float]:
    options = {
        "batch-size": given.batch_size,
        "bank": BANK,
        "epochs": given.epochs,
        "device": given.device,
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    script = [
        str(venv / "bin/python"),
        str(PEERS / "lightly_moco.py"),
        str(folder),
        f"--workers={os.cpu_count()}",
    ]
    took = watch(*script, *words, environment=peer_environment())
    told = json.loads(took.stdout.splitlines()[-1])
    return (
        {"process_seconds": took.seconds, "peak_mib": took.peak_mib}
        | figures(told["epochs"])
        | {"backbone_gflop": told["backbone_gflop"]}
    )


def figures(epochs: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of all epochs but the first, in which kernels are chosen and files read for the first
    time.
    """
    counted = epochs[1:]
    seconds, images = (sum(epoch[name] for epoch in counted) for name in ("seconds", "images"))
    waited = sum(epoch["data_wait"] * epoch["seconds"] for epoch in counted)
    estep = sum(epoch.get("estep_seconds", 0.0) for epoch in counted)
    return {
        "images_per_second": images / seconds,
        "data_wait": waited / seconds,
        "seconds_for_50000": (seconds + estep) * CIFAR / images,
        "estep_share": estep / (seconds + estep),
    }


def copy_images(source: Path, count: int, folder: Path) -> Path:
    """The first `count` files of the source, byte by byte."""
    folder.mkdir()
    images = photographs(source)
    if len(images) < count:
        raise SystemExit(
            f"{source} holds {len(images)} images, and --steps with --batch-size takes {count}"
        )
    for i, data in enumerate(islice(images, count)):
        (folder / f"{i:06d}.jpg").write_bytes(data)
    return folder


def precisions(device: torch.device) -> list[str]:
    """Of ours: the peers' own, and the default where that is another."""
    return ["fp32"] + ["bf16"] * (choose_precision("auto", device) is torch.bfloat16)


def tools(folder: Path, room: Path, given: argparse.Namespace) -> list[Tool]:
    """lightly's first; then ours in its precision, in our default one, and on a GPU in further
    ways.
    """
    found = [
        Tool(
            LIGHTLY,
            partial(lightly, folder, given.peers_venv, given),
            f"fp32, a worker for each core; batch norm split 8 ways, memory bank of {BANK}",
        )
    ]
    kinds = precisions(torch.device(given.device))
    for precision in kinds:
        measure = partial(pauc_train, folder, room, given, precision)
        found.append(Tool(f"pauc train {precision}", measure, json.dumps(SETTINGS)))
    if given.device == "cuda":
        for name, more in ON_A_GPU.items():
            measure = partial(pauc_train, folder, room, given, kinds[-1], **more)
            found.append(
                Tool(f"pauc train {kinds[-1]}, {name}", measure, json.dumps(SETTINGS | more))
            )
    return found


def measure(given: argparse.Namespace, journal: Journal) -> dict[str, Any]:
    """Every repetition of every tool, of the network alone and of bare matrix products."""
    device = torch.device(given.device)
    kinds = precisions(device)
    with tempfile.TemporaryDirectory() as name:
        room = Path(name)
        folder = copy_images(given.images, given.steps * given.batch_size, room / "images")
        present = tools(folder, room, given)
        runs: dict[str, Any] = {"tools": {tool.name: [] for tool in present}, "ceilings": []}
        runs["network alone"] = {precision: [] for precision in kinds}
        for i in range(1, given.repetitions + 1):
            runs["ceilings"].append(journal.once(f"{i}: ceilings", partial(ceilings, device)))
            for precision, found in runs["network alone"].items():
                once = partial(
                    network_alone, given.architecture, given.batch_size, device, precision
                )
                found.append(journal.once(f"{i}: network alone, {precision}", once))
            for tool in present:
                runs["tools"][tool.name].append(journal.once(f"{i}: {tool.name}", tool.measure))
    return runs | {"settings": {tool.name: tool.settings for tool in present}}


def summarise(runs: dict[str, Any]) -> dict[str, Any]:
    """Medians, and how ours stands beside lightly's and beside the network alone."""
    top = medians(runs["ceilings"])
    alone = {precision: medians(found) for precision, found in runs["network alone"].items()}
    found = {name: medians(each) for name, each in runs["tools"].items()}
    ours = {name: of for name, of in found.items() if name != LIGHTLY}
    precision_of = {name: next(each for each in DTYPES if each in name) for name in ours}
    return {
        "medians": {"ceilings": top, "network alone": alone, "tools": found},
        "ratios": {
            "images a second over lightly's": {
                name: of["images_per_second"] / found[LIGHTLY]["images_per_second"]
                for name, of in ours.items()
            },
        },
        "how far from the limit": {
            name: {
                "share_of_network_alone": of["images_per_second"]
                / alone[precision_of[name]]["images_per_second"],
                "network_alone_share_of_products": alone[precision_of[name]]["gflops"]
                / top[f"{precision_of[name]}_gflops"],
                "data_wait": of["data_wait"],
                "minutes_of_200_epochs": RECIPE_EPOCHS * of["seconds_for_50000"] / 60,
            }
            for name, of in ours.items()
        },
    }


LIMITS = (
    "The network: a step cannot be faster than its forward and backward passes alone "
    "(share_of_network_alone), nor "
    "these faster than bare matrix products (network_alone_share_of_products): what lies "
    "between are convolutions of "
    "few channels, batch norm and the memory that activations pass through. What is missing to "
    "share_of_network_alone "
    "is the wait for images (data_wait), augmentation, loss, optimiser and momentum encoder."
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "images",
        type=Path,
        help="CIFAR-10: Parquet file with a column `image`, or folder of JPEGs",
    )
    parser.add_argument(
        "--peers-venv", type=Path, required=True, help="made where it is missing; about 6 GB"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--architecture", default="pauc_resnet18_cifar", help="ours; with lightly's own stem"
    )
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument(
        "--steps", type=int, default=4, help="an epoch; so many batches of images are taken"
    )
    parser.add_argument("--epochs", type=int, default=2, help="the first does not count")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path, help="benchmarks/results/… unless given")
    given = parser.parse_args()
    if given.epochs < 2:
        parser.error("--epochs must be 2 or more: the first does not count")
    given.peers_venv = peers_venv(given.peers_venv)
    keep_freed_memory()
    device = torch.device(given.device)
    output = given.output or result_path("train-against-lightly", device)
    options = {
        name: getattr(given, name)
        for name in ("device", "architecture", "batch_size", "steps", "epochs")
    }
    about = {
        "settings": options,
        **machine(device),
        "peers": peer_versions(given.peers_venv, PEERS_PACKAGES),
    }
    journal = Journal(output.with_suffix(".unfinished.json"), about)
    runs = measure(given, journal)
    result = {
        "question": QUESTION,
        "command": command(options, given.repetitions),
        **about,
        "tools": runs.pop("settings"),
        "backbone_gflop": {
            "ours": backbone_gflop(given.architecture),
            "lightly's": runs["tools"][LIGHTLY][0]["backbone_gflop"],
        },
        **summarise(runs),
        "limits": LIMITS,
        "sittings": journal.sittings,
        "repetitions": runs,
    }
    write_result(output, result, ("backbone_gflop", "medians", "ratios", "how far from the limit"))
    journal.remove()


def command(options: dict[str, Any], repetitions: int) -> str:
    """How to do this again; where the images lie is nobody's business."""
    words = [
        f"--{name.replace('_', '-')} {value}"
        for name, value in (options | {"repetitions": repetitions}).items()
    ]
    return (
        "python benchmarks/train_against_lightly.py cifar10-train.parquet --peers-venv peers "
        f"{' '.join(words)}"
    )


if __name__ == "__main__":
    main()
