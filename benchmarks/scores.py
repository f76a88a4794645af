"""Do the scores on the cards come out again? Repeats them from the weights and the data; or measures new ones.

    python benchmarks/scores.py --tiny tiny-imagenet-200 --cifar cifar10-train.parquet
    python benchmarks/scores.py --tiny tiny-imagenet-200 --measure run/model -o scores.json

Without --measure: every score on the card of each bundled model, and of the same network with random weights; exit code
1 where one is off by more than rounding and the arithmetic of other processors explain. With it: all protocols on all
data given, as facts.json has scores; benchmarks/bundle.py takes the file. Data sets are named as in labelled_splits.py.
"""

import argparse
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import feature_scores
import timm
import torch
from labelled_splits import Split, read_splits
from measuring import machine

import pauc_hub
from pauc_hub.device import keep_freed_memory
from pauc_hub.errors import PaucError
from pauc_hub.models.catalog import available_models

TOLERANCE = 0.05
"""Points: cards have two decimals, and on other processors about 5 of 10,000 images fall to the other side."""
KNN = f"weighted kNN, k = {feature_scores.K}, T = {feature_scores.TEMPERATURE}, cosine"
LINEAR = "linear probe: logistic regression, L2 chosen on held-out rows of the bank"
DATA = {"Tiny ImageNet": ("tiny", "train", "val"), "CIFAR-10": ("cifar", "train", "test")}
COMMAND = "make scores"

Score = dict[str, Any]


class Bench:
    """A network's features of the data sets given, embedded once each."""

    def __init__(self, model: pauc_hub.Model, splits: dict[str, tuple[Split, Split]]) -> None:
        self._model = model
        self._splits = splits
        self._features: dict[str, tuple[feature_scores.Features, feature_scores.Features]] = {}

    def top1(self, protocol: str, name: str) -> float:
        """In %, rounded as on a card."""
        bank, queries = self._splits[name]
        if name not in self._features:
            embedded = [
                feature_scores.embed(self._model, split, f"{self._model.name}, {name}") for split in (bank, queries)
            ]
            self._features[name] = (embedded[0], embedded[1])
        rows, asked = self._features[name]
        given = (rows, bank.labels, asked, queries.labels)
        share = (
            float(feature_scores.knn_right(*given).mean())
            if protocol == KNN
            else feature_scores.linear_accuracy(*given)
        )
        return round(100 * share, 2)


def untrained(model: pauc_hub.Model, seed: int) -> pauc_hub.Model:
    """The same network as it is before training."""
    torch.manual_seed(seed)
    network = timm.create_model(model.folder.architecture, num_classes=0).eval()
    network = network.to(model.device).to(memory_format=torch.channels_last)
    return dataclasses.replace(model, name="random network", network=cast(Any, network))


def data_of(score: Score) -> str | None:
    """Which data set a score on a card is about, if it can be repeated here."""
    named = [name for name in DATA if score["bank"].startswith(f"{name} ") and score["queries"].startswith(f"{name} ")]
    return named[0] if named and score["protocol"] in (KNN, LINEAR) else None


def repeated(model: pauc_hub.Model, splits: dict[str, tuple[Split, Split]]) -> Iterator[tuple[str, str]]:
    """(verdict, line) of each figure on a model's card: same, off, or left out."""
    trained, random = Bench(model, splits), None
    for score in model.folder.facts["scores"]:
        what = f"{model.name}: {score['protocol']}, {score['queries']}"
        name = data_of(score)
        if name is None:
            yield "off", f"{what}: this script does not know how to repeat it"
            continue
        if name not in splits:
            yield "left out", f"{what}: needs {DATA[name][0].upper()}="
            continue
        sizes = [
            f"{name} {part}, {len(split.images):,}" for part, split in zip(DATA[name][1:], splits[name], strict=True)
        ]
        if sizes != [score["bank"], score["queries"]]:
            yield "off", f"{what}: the data given are {' and '.join(sizes)}"
            continue
        yield _compared(what, score["value"], trained.top1(score["protocol"], name))
        if "random" in score:
            random = random or Bench(untrained(model, score["seed"]), splits)
            yield _compared(f"{what}, random network", score["random"], random.top1(score["protocol"], name))


def _compared(what: str, told: float, found: float) -> tuple[str, str]:
    verdict = "same" if abs(told - found) <= TOLERANCE + 1e-9 else "off"
    return verdict, f"{what}: {told} on the card, {found} now"


def measured(model: pauc_hub.Model, splits: dict[str, tuple[Split, Split]]) -> dict[str, Any]:
    """All protocols on all data, with what bundle.py wants to know."""
    seed = feature_scores.SEED
    trained, random = Bench(model, splits), Bench(untrained(model, seed), splits)
    scores = [
        {
            "protocol": protocol,
            "metric": "top-1 %",
            "space": "backbone",
            "resolution": model.preprocessing.size,
            "bank": f"{name} {DATA[name][1]}, {len(bank.images):,}",
            "queries": f"{name} {DATA[name][2]}, {len(queries.images):,}",
            "value": trained.top1(protocol, name),
            "random": random.top1(protocol, name),
            "seed": seed,
            "command": f"{COMMAND} {DATA[name][0].upper()}=…",
        }
        for name, (bank, queries) in splits.items()
        for protocol in (KNN, LINEAR)
    ]
    about = {"weights_sha256": model.weights_sha256, "precision": model.precision, "machine": machine(model.device)}
    return {"model": model.name, "scores": scores} | about


def repeat_all(splits: dict[str, tuple[Split, Split]], device: str) -> None:
    """Print a line for each figure on the bundled cards.

    Raises:
        SystemExit: one is off, or none could be repeated.
    """
    verdicts = []
    for name in [entry.name for entry in available_models() if entry.has_weights]:
        for verdict, line in repeated(pauc_hub.load(name, device=device), splits):
            print(f"{verdict:8} {line}", flush=True)
            verdicts.append(verdict)
    if "off" in verdicts:
        raise SystemExit("error: cards and weights disagree; see the lines above.")
    if "same" not in verdicts:
        raise SystemExit("error: no score was repeated. Give TINY= or CIFAR=.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", type=Path, help="Tiny ImageNet: its folder, or Parquet")
    parser.add_argument(
        "--cifar", type=Path, help="CIFAR-10: the training split's Parquet file, the other one beside it"
    )
    parser.add_argument("--measure", metavar="MODEL", help="score this model, and look at no card")
    parser.add_argument("-o", "--output", type=Path, help="where --measure writes its JSON (default: stdout)")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    keep_freed_memory()
    given = {name: getattr(arguments, option) for name, (option, *_) in DATA.items()}
    splits = {name: read_splits(place) for name, place in given.items() if place}
    try:
        if not arguments.measure:
            repeat_all(splits, arguments.device)
            return
        found = measured(pauc_hub.load(arguments.measure, device=arguments.device), splits)
    except PaucError as error:
        raise SystemExit(f"error: {error}") from error
    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
