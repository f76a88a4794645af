"""How long does the path of a linear probe take: ours, and scikit-learn's LogisticRegression?

    python benchmarks/probe.py                # 50,000 x 512 x 10 classes, 50,000 x 2048 x 200
    python benchmarks/probe.py --sizes small  # the first alone
    python benchmarks/probe.py --sizes cut    # many classes, on a busy machine: 5,000 x 1024 x 100

Both fit the same standardised float32 features at the same eight L2 values from strong to weak,
each starting where the last one ended, in turn in one run, each twice: with the tolerance that it
uses by default, and with a smaller one. scikit-learn's is a bound on the gradient, which stops
early where L2 is weak; ours is an estimate of what the objective may still fall by. Objectives are
computed anew in float64; accuracy is on rows that were not fitted. Where the machine is shared, the
seconds of processor time tell more; then give one thread, since waiting threads count. The features
are made up: classes overlap, a tenth of the labels is wrong, features are correlated and cut off at
0, as those of networks are. Stopped, the same command goes on where it was.
"""

import argparse
import os
import time
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from measuring import CPU, Journal, machine, medians, result_path, write_result

from pauc_hub.evaluation.design import Design, Standardisation
from pauc_hub.evaluation.linear_probe import L2_VALUES, SEARCHING
from pauc_hub.evaluation.logistic import Problem, path

# rows, width, classes
SIZES = {"small": (50_000, 512, 10), "large": (50_000, 2048, 200), "cut": (5_000, 1024, 100)}
# that are measured unless others are named
USUAL = ("small", "large")
TEST_ROWS = 5000
WRONG = 0.1
OURS = {"pauc-hub": SEARCHING, "pauc-hub, 1e-6 nats": 1e-6}
TOLERANCES = {"scikit-learn, tol 1e-4": 1e-4, "scikit-learn, tol 1e-6": 1e-6}
PAIRS = tuple(zip(OURS, TOLERANCES, strict=True))

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
# weights (C, D) and intercept (C,), one for each L2 value
Classifiers = Iterator[tuple[Floats, Floats]]


def features(rows: int, width: int, classes: int) -> tuple[Floats, Labels]:
    """Standardised, with their labels; TEST_ROWS more than `rows`."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, rows + TEST_ROWS)
    centres = rng.standard_normal((classes, width), dtype=np.float32) * np.float32(8 / width**0.5)
    # A spectrum that falls by a factor of 30, as the principal components of a network's features
    # do.
    mixing = rng.standard_normal((width, width), dtype=np.float32)
    mixing *= np.logspace(0, -1.5, width, dtype=np.float32)[:, None]
    noise = rng.standard_normal((len(labels), width), dtype=np.float32)
    found = ((centres[labels] + noise) @ mixing).astype(np.float32, copy=False)
    np.maximum(found, 0, out=found)
    found -= found[:rows].mean(axis=0)
    found /= found[:rows].std(axis=0)
    wrong = rng.random(len(labels)) < WRONG
    return found, np.where(wrong, rng.integers(0, classes, len(labels)), labels)


def by_us(tolerance: float, classes: int, x: Floats, y: Labels) -> Classifiers:
    width = x.shape[1]
    plain = Standardisation(torch.zeros(width), torch.ones(width))
    design = Design(x, np.arange(len(x)), plain, in_memory=True, device=CPU)
    for fitted in path(Problem(design, torch.from_numpy(y), classes, plain), L2_VALUES, tolerance):
        yield fitted.model.weights.numpy(), fitted.model.intercept.numpy()


def by_sklearn(tolerance: float, x: Floats, y: Labels) -> Classifiers:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(warm_start=True, tol=tolerance, max_iter=5000)
    for l2 in L2_VALUES:
        model.C = 1 / (len(x) * l2)
        model.fit(x, y)
        yield model.coef_.copy(), model.intercept_.copy()


def run(library: str, size: tuple[int, int, int]) -> dict[str, Any]:
    """One path: its time, and what each classifier is worth."""
    rows, width, classes = size
    everything, labels = features(rows, width, classes)
    x, y = everything[:rows], labels[:rows]
    fit = (
        partial(by_sklearn, TOLERANCES[library])
        if library in TOLERANCES
        else partial(by_us, OURS[library], classes)
    )
    begun, busy = time.perf_counter(), time.process_time()
    found = list(fit(x, y))
    taken = {"seconds": time.perf_counter() - begun, "cpu_seconds": time.process_time() - busy}
    points = zip(L2_VALUES, found, strict=True)
    objectives = [objective(x, y, weights, intercept, l2) for l2, (weights, intercept) in points]
    scores = [accuracy(everything[rows:], labels[rows:], *each) for each in found]
    return taken | {"objectives": objectives, "accuracies": scores}


def objective(x: Floats, y: Labels, weights: Floats, intercept: Floats, l2: float) -> float:
    logits = torch.from_numpy(x @ weights.T + intercept).double()
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(y)).item()
    return float(loss + l2 / 2 * np.square(weights.astype(np.float64)).sum())


def accuracy(x: Floats, y: Labels, weights: Floats, intercept: Floats) -> float:
    return float(((x @ weights.T + intercept).argmax(axis=1) == y).mean())


def compare(size: tuple[int, int, int], repetitions: int, journal: Journal) -> dict[str, Any]:
    libraries = (*OURS, *TOLERANCES)
    name = " x ".join(f"{number:,}" for number in size)
    runs = [
        {each: journal.once(f"{i}: {name}, {each}", partial(run, each, size)) for each in libraries}
        for i in range(1, repetitions + 1)
    ]
    least = np.min([runs[0][each]["objectives"] for each in libraries], axis=0)
    times = {
        each: medians(
            [{key: found[each][key] for key in ("seconds", "cpu_seconds")} for found in runs]
        )
        for each in libraries
    }
    return {
        "rows": size[0],
        "width": size[1],
        "classes": size[2],
        "l2": L2_VALUES,
        "times": times,
        "times_of_pauc_hub": {
            peer: {key: times[peer][key] / times[ours][key] for key in times[peer]}
            for ours, peer in PAIRS
        },
        "largest_gap_to_best_objective": {
            each: float((np.array(runs[0][each]["objectives"]) - least).max()) for each in libraries
        },
        "best_accuracy": {each: max(runs[0][each]["accuracies"]) for each in libraries},
        "repetitions": runs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(USUAL))
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument(
        "-o", "--output", type=Path, help="benchmarks/results/probe-<machine>.json unless given"
    )
    arguments = parser.parse_args()
    output = arguments.output or result_path("probe", CPU)
    about = machine(CPU) | {
        "threads": torch.get_num_threads(),
        "peers": {"scikit-learn": version("scikit-learn")},
    }
    journal = Journal(output.with_suffix(".unfinished.json"), about)
    sizes = " ".join(arguments.sizes)
    result = {
        "question": "How long does the path of a linear probe take?",
        "command": f"python benchmarks/probe.py --sizes {sizes} "
        f"--repetitions {arguments.repetitions}",
        **about,
        "results": [
            compare(SIZES[size], arguments.repetitions, journal) for size in arguments.sizes
        ],
        "sittings": journal.sittings,
        "load_at_the_end": os.getloadavg()[0],
    }
    write_result(output, result, ("results",))
    journal.remove()


if __name__ == "__main__":
    main()
