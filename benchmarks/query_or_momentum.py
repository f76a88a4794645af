"""Which encoder should a run export? kNN by the query and by the momentum encoder, on labels that
are held out.

    python benchmarks/query_or_momentum.py cifar10-train.parquet -o work

The last tenth of the rows asks, the rest are trained on and vote: weighted kNN (k = 200, T = 0.1,
cosine, backbone, evaluation transform; method.md §7). No test split is touched. Each encoder is
measured with its own running statistics of batch norm, and with statistics measured anew over the
training images. A ResNet-18 with its stock stem at 32 pixels, else as `pauc train` chooses.
Stopped, the same command goes on where it was; of a finished run it measures alone.
"""

import argparse
import dataclasses
import sys
from collections.abc import Iterator
from contextlib import closing
from copy import deepcopy
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from measuring import machine, result_path, rounded, write_result
from torch import Tensor, nn

from pauc_hub.device import keep_freed_memory
from pauc_hub.errors import UsageError
from pauc_hub.evaluation.knn import knn_predict
from pauc_hub.sources.by_index import ImageSource, open_by_index
from pauc_hub.training.data.streamed import Streamed
from pauc_hub.training.interruption import StopRequest
from pauc_hub.training.loop import train
from pauc_hub.training.networks.encoder import Encoder
from pauc_hub.training.recipes import settle
from pauc_hub.training.run import checkpoint, run_folder
from pauc_hub.training.run.checkpoint_files import standing
from pauc_hub.training.state import Training, new_training

QUESTION = "Which encoder should a run export, query or momentum?"
HELD_OUT = 10  # one row of so many
K, TEMPERATURE = 200, 0.1
BATCH = 250
BANK, QUERIES, RUN = "bank.parquet", "queries.parquet", "run"
CPU = torch.device("cpu")


def divide(rows: Path, folder: Path, count: int | None) -> None:
    """bank.parquet and queries.parquet in the folder, unless they are there; of the first `count`
    rows, or of all.
    """
    if (folder / BANK).exists() and (folder / QUERIES).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    table = pq.read_table(rows).slice(0, count)
    bank = len(table) - len(table) // HELD_OUT
    pq.write_table(table.slice(0, bank), folder / BANK, row_group_size=1000)
    pq.write_table(table.slice(bank), folder / QUERIES, row_group_size=1000)


def learn(folder: Path, epochs: int) -> None:
    """A run in the folder, from its newest checkpoint if there is one."""
    images, run = open_by_index(folder / BANK), folder / RUN
    if (run / run_folder.MODEL).exists():
        return
    command = " ".join(sys.argv)
    if standing(run):
        train(images, run, device="cpu", resume=True, command=command)
        return
    given = {
        "architecture": "resnet18",
        "size": 32,
        "batch_size": 256,
        "epochs": epochs,
        "precision": "fp32",
    }
    config, _ = settle(images, CPU, given)
    train(images, run, config, device="cpu", command=command)


def restored(folder: Path) -> Training:
    """The run as its newest checkpoint has it."""
    source, run = open_by_index(folder / BANK, quiet=True), folder / RUN
    config = run_folder.saved_config(run)
    state = new_training(
        run, config, source, CPU, torch.get_num_threads(), StopRequest(), quiet=True
    )
    place = checkpoint.read_place(run, source.fingerprint())
    if place is None:
        raise UsageError(f"'{run}' has no checkpoint.")
    state.resume_from(place)
    return state


def images_of(source: ImageSource, state: Training) -> Iterator[Tensor]:
    """(n, 3, S, S) under the evaluation transform, in order."""
    loader = Streamed(source, state.loader.preprocessing, torch.get_num_threads(), CPU)
    everything = range(len(source))
    with closing(
        loader.squares([everything[i : i + BATCH] for i in everything[::BATCH]])
    ) as squares:
        for pixels, readable in squares:
            assert bool(readable.all()), "every row has a class"
            yield loader.preprocessing.normalise(pixels)


@torch.no_grad()
def measured_anew(encoder: Encoder, source: ImageSource, state: Training) -> Encoder:
    """A copy whose running statistics are the mean of those of all batches."""
    copy = deepcopy(encoder).train()
    for layer in copy.modules():
        if isinstance(layer, nn.BatchNorm2d):
            # of whole batches, all with the same weight
            layer.__class__ = nn.BatchNorm2d
            layer.reset_running_stats()
            layer.momentum = None
    for images in images_of(source, state):
        # The last batch may be of one image, which has no variance.
        if len(images) == BATCH:
            copy(images)
    return copy


@torch.no_grad()
def features(encoder: Encoder, source: ImageSource, state: Training) -> Tensor:
    """(N, width) of the backbone."""
    backbone = encoder.eval().backbone
    return torch.cat([backbone(images) for images in images_of(source, state)])


def labels(rows: Path) -> Tensor:
    return torch.tensor(pq.read_table(rows, columns=["label"])["label"].to_pylist())


def measure(folder: Path) -> dict[str, Any]:
    """Top-1 in %, of each encoder with its own statistics and with new ones."""
    state = restored(folder)
    bank, queries = (open_by_index(folder / name, quiet=True) for name in (BANK, QUERIES))
    votes, truth = labels(folder / BANK), labels(folder / QUERIES)
    found: dict[str, Any] = {}
    for name, encoder in (("query", state.pair.query), ("momentum", state.pair.key)):
        for statistics in ("own", "measured anew"):
            judged = encoder if statistics == "own" else measured_anew(encoder, bank, state)
            rows, asked = features(judged, bank, state), features(judged, queries, state)
            right = knn_predict(rows, votes, asked, k=K, temperature=TEMPERATURE) == truth
            found[f"{name}, statistics {statistics}"] = 100 * right.double().mean().item()
    return {
        "question": QUESTION,
        "command": f"python benchmarks/query_or_momentum.py cifar10-train.parquet -o {folder.name} "
        f"--images {len(votes) + len(truth)}",
        "protocol": f"weighted kNN, k = {K}, T = {TEMPERATURE}, cosine, backbone; top-1 %",
        "bank": len(votes),
        "queries": len(truth),
        "epochs done": state.epoch,
        "steps done of the next": state.step,
        "config": dataclasses.asdict(state.config),
        "top-1": rounded(found),
        "machine": machine(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "rows", type=Path, help="Parquet file with columns image and label, such as CIFAR-10's"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        help="folder of the run and of the divided images",
    )
    parser.add_argument("--images", type=int, help="rows to use, the first ones; all unless given")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument(
        "--as-it-stands",
        action="store_true",
        help="measure the newest checkpoint, and train no more",
    )
    arguments = parser.parse_args()
    keep_freed_memory()
    divide(arguments.rows, arguments.output, arguments.images)
    if not arguments.as_it_stands:
        learn(arguments.output, arguments.epochs)
    result = measure(arguments.output)
    write_result(result_path("query-or-momentum"), result, ("epochs done", "top-1"))


if __name__ == "__main__":
    main()
