r"""Which objective learns the best features, and what does each part of PAUC add? Trains and scores
the plan's rows.

    python benchmarks/ablation.py cifar10-train.parquet cifar10-test.parquet -o work
    python benchmarks/ablation.py cifar10-train.parquet cifar10-test.parquet -o work \
        --rows infonce,pauc --set lr=0.12

The rows are those of ablation_plan.py: three of them with several seeds, the others with one. By
default ResNet-18 with its stock stem at 32 pixels, 50 epochs, which is no published setting. Each
run is scored once, at its last epoch, on the test split; settings are to be chosen elsewhere. Every
result is written as it comes. Ctrl-C saves the run that is going on, and the same command goes on
there; finished runs are neither trained nor scored again. benchmarks/results_page.py makes
docs/results.md of the result.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import feature_scores
import numpy as np
from ablation_plan import HEADLINE_SEEDS, ROWS, Run, config_of, runs
from labelled_splits import Split, read_rows
from measuring import machine, result_path
from results_file import Results

import pauc_hub
from pauc_hub.device import choose_device, keep_freed_memory
from pauc_hub.errors import Interrupted, PaucError
from pauc_hub.sources.by_index import open_by_index
from pauc_hub.training.derived import default_clusters
from pauc_hub.training.loop import train
from pauc_hub.training.monitoring.history import read_history
from pauc_hub.training.run import run_folder
from pauc_hub.training.run.checkpoint_files import standing
from pauc_hub.training.settings import read_value

QUESTION = "Which objective learns the best features, and what does each part of PAUC add?"
CURVES = ("intra_share", "effective_rank", "assignment_nmi")
INTERRUPTED = 130
PROTOCOLS = {
    "knn": (
        f"weighted kNN, k = {feature_scores.K}, T = {feature_scores.TEMPERATURE}, cosine, "
        "backbone; top-1 %"
    ),
    "linear": (
        "multinomial logistic regression, L2 chosen on held-out training rows, backbone; top-1 %"
    ),
    "cluster_accuracy": (
        "k-means of the test split, K = classes, unit length, backbone; best matching, %"
    ),
    "cluster_nmi": "of the same clustering; %",
    "low_shot": "linear SVM, images a class, mean of 5 draws, backbone; top-1 %",
    "effective_rank": "of the projections of about 4096 training images",
    "intra_share": (
        "of the projections of the training split, the same number of clusters for all rows"
    ),
    "minutes": "training alone, without E-steps where these only watch",
}


def learn(run: Run, images: Path, folder: Path, given: Mapping[str, Any], device: str) -> Path:
    """The run's model folder, trained from its newest checkpoint where there is one, unless it is
    there.

    Raises:
        UsageError: the run that stands there has other settings.
        Interrupted: with everything saved.
    """
    source = open_by_index(images, quiet=True)
    config = config_of(run, len(source), given)
    begun = bool(standing(folder))
    if begun or (folder / run_folder.MODEL).exists():
        saved = run_folder.saved_config(folder).resolve(len(source))
        if saved != config:
            raise SystemExit(
                f"error: '{folder}' holds a run with other settings. Name another folder: -o."
            )
    if (folder / run_folder.MODEL).exists():
        return folder / run_folder.MODEL
    command = " ".join(sys.argv)
    if begun:
        return train(source, folder, device=device, resume=True, command=command)
    # What a stop before the first checkpoint left is no run yet.
    return train(source, folder, config, device=device, overwrite=True, command=command)


def scores(model: pauc_hub.Model, bank: Split, queries: Split, clusters: int) -> dict[str, Any]:
    """Of a finished model; shares in %."""
    rows = feature_scores.embed(model, bank, "training split")
    asked = feature_scores.embed(model, queries, "test split")
    projected = feature_scores.embed(model, bank, "training split, projections", "projection")
    given = (rows, bank.labels, asked, queries.labels)
    right = feature_scores.knn_right(*given)
    accuracy, nmi = feature_scores.clustering(asked, queries.labels)
    return {
        "knn": 100 * float(right.mean()),
        "linear": 100 * feature_scores.linear_accuracy(*given),
        "cluster_accuracy": 100 * accuracy,
        "cluster_nmi": 100 * nmi,
        "low_shot": {k: 100 * share for k, share in feature_scores.low_shot(*given).items()},
        "effective_rank": feature_scores.rank(projected),
        "intra_share": feature_scores.intra_share(projected, clusters),
        # a bit for each test image: so that two networks can be compared image by image
        "knn_right": np.packbits(right).tobytes().hex(),
    }


def receipts(run: Run, folder: Path, model: pauc_hub.Model) -> dict[str, Any]:
    """What the run was, how long it took, and its curves."""
    history, facts = read_history(folder), model.folder.facts
    seconds = facts["seconds"]
    if run.row.name == "infonce":
        seconds -= sum(history.series("estep_seconds")[1])
    return {
        "row": run.row.name,
        "about": run.row.about,
        "seed": run.seed,
        "settings": dict(run.row.settings),
        "minutes": seconds / 60,
        "commit": facts["commit"],
        "hardware": facts["hardware"],
        "weights_sha256": model.weights_sha256,
        "curves": {
            name: dict(zip(("epochs", "values"), history.series(name), strict=True))
            for name in CURVES
        },
    }


def about(
    splits: tuple[Split, Split], names: tuple[str, str], images: int, given: Mapping[str, Any]
) -> dict[str, Any]:
    """What all rows share."""
    bank, queries = splits
    common = config_of(Run(ROWS[0], 0), images, given).to_json()
    own = {name for row in ROWS for name in row.settings} | {"seed"}
    # a place on this machine, which decides nothing
    common.pop("labelled")
    return {
        "training split": {"name": names[0], "images": len(bank.images)},
        "test split": {"name": names[1], "images": len(queries.images)},
        "settings": {
            name: value for name, value in common.items() if name not in own - {"clusters"}
        },
        "protocols": PROTOCOLS,
    }


def carry_out(arguments: argparse.Namespace, given: Mapping[str, Any]) -> None:
    """Train and score what is missing."""
    splits = read_rows([arguments.train]), read_rows([arguments.test])
    bank, queries = splits
    shared = about(splits, (arguments.train.name, arguments.test.name), len(bank.images), given)
    device = choose_device(arguments.device)
    path = arguments.result or result_path("ablation", device)
    results = Results(path, QUESTION, shared)
    plan = runs(arguments.rows, arguments.seeds)
    # all are checked before the first one is trained
    for run in plan:
        config_of(run, len(bank.images), given)
    clusters = default_clusters(len(bank.images))[-1]
    for number, run in enumerate(plan, 1):
        if run.key in results:
            continue
        print(f"{number} of {len(plan)}: {run.key}, {run.row.about}", file=sys.stderr)
        folder = arguments.output / run.key
        model = pauc_hub.load(
            learn(run, arguments.train, folder, given, arguments.device), device=arguments.device
        )
        began = time.monotonic()
        found = receipts(run, folder, model) | scores(model, bank, queries, clusters)
        found |= {"scoring minutes": (time.monotonic() - began) / 60, "machine": machine(device)}
        results.add(run.key, found)
        print(
            f"{run.key}: kNN {found['knn']:.1f}, linear {found['linear']:.1f}; in {path}",
            file=sys.stderr,
        )


def parsed() -> tuple[argparse.Namespace, dict[str, Any]]:
    """Arguments, and the settings given for all rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "train", type=Path, help="Parquet file with columns image and label, such as CIFAR-10's"
    )
    parser.add_argument("test", type=Path, help="the same of the test split")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the runs")
    parser.add_argument(
        "--result",
        type=Path,
        help="the result's file (default: benchmarks/results/ablation-….json)",
    )
    parser.add_argument("--epochs", type=int, help="50 by default")
    parser.add_argument("--seeds", type=int, default=HEADLINE_SEEDS, help="of the headline rows")
    parser.add_argument(
        "--rows", type=lambda text: text.split(","), default=[], help="names, commas between"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of all rows"
    )
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.rows) - {row.name for row in ROWS})
    if unknown:
        parser.error(
            f"no row is named {', '.join(unknown)}; there are {', '.join(row.name for row in ROWS)}"
        )
    pairs = [text.partition("=") for text in arguments.set]
    given = {name: read_value(name, value) for name, _, value in pairs}
    return arguments, given | ({"epochs": arguments.epochs} if arguments.epochs else {})


def main() -> None:
    arguments, given = parsed()
    keep_freed_memory()
    try:
        carry_out(arguments, given)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        raise SystemExit(INTERRUPTED) from stop
    except PaucError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
