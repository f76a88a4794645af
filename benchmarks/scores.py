"""Do the scores on the cards come out again? Repeats them from the weights and the data; or
measures new ones.

    python benchmarks/scores.py --tiny tiny-imagenet-200 --cifar cifar10-train.parquet
    python benchmarks/scores.py --tiny tiny-imagenet-200 --measure run/model -o scores.json

Without --measure: `pauc verify --scores` of each bundled model, and the same of its network with
random weights, whose scores stand beside; exit code 1 where one differs by more than rounding and
the arithmetic of other processors explain. With it: linear probe and kNN on all data given, as
facts.json has scores; benchmarks/bundle.py takes the file. Data sets are named as in
labelled_splits.py. Tables of embeddings are kept beside them, and used again.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch
from labelled_splits import place_of_splits
from measuring import machine

import pauc_hub
from pauc_hub.answers.card_scores import COPIES, card_scores
from pauc_hub.answers.measures import Asked, measure
from pauc_hub.answers.verify import check_scores
from pauc_hub.cli.verify import sentence
from pauc_hub.device import keep_freed_memory
from pauc_hub.errors import PaucError
from pauc_hub.hub.verify import ScoreCheck
from pauc_hub.models.catalog import available_models
from pauc_hub.models.folder import ModelFolder
from pauc_hub.models.write_folder import NETWORK_KEYS, PREPROCESSING_KEYS, write_folder

DATA = {"Tiny ImageNet": ("tiny", "train", "val"), "CIFAR-10": ("cifar", "train", "test")}
EVALUATIONS = frozenset({"linear", "knn"})
METRIC = "top-1 %"
KEPT = PREPROCESSING_KEYS | NETWORK_KEYS
COMMAND = "make scores"
SEED = 0

Score = dict[str, Any]


def write_untrained(folder: ModelFolder, place: Path, seed: int) -> Path:
    """The same network as it is before training, as a model folder at `place`."""
    torch.manual_seed(seed)
    network = timm.create_model(folder.architecture, num_classes=0)
    return write_folder(
        place,
        architecture=folder.architecture,
        backbone=network.state_dict(),
        num_features=folder.num_features,
        preprocessing={
            key: value for key, value in folder.preprocessing_config.items() if key in KEPT
        },
        pauc={},
        projector=None,
        prototypes=[],
        facts={"name": place.name},
        card="",
        half=False,
    )


def repeated(folder: ModelFolder, asked: Asked) -> Iterator[ScoreCheck]:
    """Each score on a model's card, and after them those of the network with random weights."""
    told: list[Score] = folder.facts["scores"]
    yield from check_scores(told, str(folder.path), asked)
    for seed in dict.fromkeys(score["seed"] for score in told if "random" in score):
        beside = [
            score | {"value": score["random"], "queries": f"{score['queries']} (random network)"}
            for score in told
            if "random" in score and score["seed"] == seed
        ]
        with tempfile.TemporaryDirectory() as work:
            random = write_untrained(folder, Path(work) / f"random-{folder.architecture}", seed)
            yield from check_scores(beside, str(random), asked)


def measured(folder: ModelFolder, splits: dict[str, Asked]) -> list[Score]:
    """Linear probe and kNN on all data, with the same network before training beside each."""
    scores = []
    with tempfile.TemporaryDirectory() as work:
        random = write_untrained(folder, Path(work) / f"random-{folder.architecture}", SEED)
        for name, asked in splits.items():
            own, other = (_top1(model, asked) for model in (folder.path, random))
            option, bank, queries = DATA[name]
            # Without digests: a data set that all know by name has other paths wherever it is kept.
            scores += [
                {key: row[key] for key in row if not key.endswith("_sha256")}
                | {
                    "bank": f"{name} {bank}, {row['bank'].rpartition(', ')[2]}",
                    "queries": f"{name} {queries}, {row['queries'].rpartition(', ')[2]}",
                    "random": beside["value"],
                    "command": f"{COMMAND} {option.upper()}=…",
                }
                for row, beside in zip(own, other, strict=True)
            ]
    return scores


def _top1(model: Path, asked: Asked) -> list[Score]:
    file, _ = measure(str(model), replace(asked, seed=SEED, only=EVALUATIONS))
    # Scores without copies of training images depend on what a network takes for a copy.
    return [
        row
        for row in card_scores(file, COMMAND)
        if row["metric"] == METRIC and COPIES not in row["protocol"]
    ]


def repeat_all(splits: dict[str, Asked]) -> None:
    """Print a line for each figure on the bundled cards.

    Raises:
        SystemExit: one differs, or none could be repeated.
    """
    verdicts: set[bool | None] = set()
    for name in [entry.name for entry in available_models() if entry.has_weights]:
        folder = pauc_hub.load(name, device="cpu").folder
        for asked in splits.values():
            for check in repeated(folder, asked):
                print(f"{name}:{sentence(check)}", flush=True)
                verdicts.add(check.holds)
    if False in verdicts:
        raise SystemExit("error: cards and weights disagree; see the lines above.")
    if True not in verdicts:
        raise SystemExit("error: no score was repeated. Give TINY= or CIFAR=.")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiny", type=Path, help="Tiny ImageNet: its folder, or Parquet")
    parser.add_argument(
        "--cifar",
        type=Path,
        help="CIFAR-10: the training split's Parquet file, the other one beside it",
    )
    parser.add_argument("--measure", metavar="MODEL", help="score this model, and look at no card")
    parser.add_argument(
        "-o", "--output", type=Path, help="where --measure writes its JSON (default: stdout)"
    )
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    keep_freed_memory()
    given = {name: getattr(arguments, option) for name, (option, *_) in DATA.items()}
    splits = {
        name: Asked(*place_of_splits(place), device=arguments.device)
        for name, place in given.items()
        if place
    }
    try:
        if not arguments.measure:
            repeat_all(splits)
            return
        model = pauc_hub.load(arguments.measure, device=arguments.device)
        scores = measured(model.folder, splits)
    except PaucError as error:
        raise SystemExit(f"error: {error}") from error
    about = {
        "weights_sha256": model.weights_sha256,
        "precision": model.precision,
        "machine": machine(model.device),
    }
    text = (
        json.dumps({"model": model.name, "scores": scores} | about, indent=2, ensure_ascii=False)
        + "\n"
    )
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
