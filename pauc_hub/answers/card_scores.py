"""Scores in a model folder: from what was measured to facts.json, README.md and SHA256SUMS."""

import json
import os
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from pauc_hub.answers.scores_file import ScoresFile
from pauc_hub.errors import ModelFolderError, UsageError
from pauc_hub.files.atomic import replace_files
from pauc_hub.files.checksums import SUMS, format_sums, read_bytes
from pauc_hub.models.bundled import bundled_folders
from pauc_hub.models.card import score_section
from pauc_hub.models.catalog import locate
from pauc_hub.models.folder import CARD, FACTS, ModelFolder, open_folder
from pauc_hub.models.front_matter import with_scores

_Score = dict[str, Any]

LINEAR = "linear probe: logistic regression, L2 chosen on held-out rows of the bank"
KNN = "weighted kNN, k = {k}, T = {temperature}, cosine"
LOW_SHOT = "low-shot: linear SVM, C = 0.5, on {shots}, mean of 5 draws"
CLUSTERING = "k-means of unit features, K = {classes}, mean of 5 seeds"
GEOMETRY = "geometry of unit features"
SHARES = {
    "top1": "top-1 %",
    "top5": "top-5 %",
    "mean_per_class": "mean per class %",
    "map": "mAP %",
    "accuracy": "accuracy, matched %",
}
"""Measures that are shares of images, in a card's words."""
MEASURES = {"nmi": "NMI", "ami": "AMI", "ari": "ARI", "effective_rank": "effective rank"}
WITHOUT_COPIES = "_without_copies"
COPIES = "test images without a copy in the bank"
EVALUATION_OF = {
    "linear probe": "linear",
    "weighted kNN": "knn",
    "low-shot": "lowshot",
    "k-means": "clustering",
    "geometry": "geometry",
}
"""By the first words of a protocol on a card, what measures it."""
IDENTITY = ("protocol", "metric", "space", "resolution", "bank", "queries", "seed")
"""A new score takes the place of one that is the same in these."""


def card_scores(file: ScoresFile, command: str) -> list[_Score]:
    """All that was measured, a row of the card each.

    Args:
        command: what measures it again.
    """
    data = file.data
    bank = f"{_short(data['train'])}, {data['train_images']:,}"
    queries = f"{_short(data['test'])}, {data['images']:,}"
    if data["train_sha256"] == data["test_sha256"]:
        queries += f" in {file.protocol['tested_on']}"
    about = {
        "space": file.origin.space,
        "resolution": file.origin.preprocessing.get("input_size", [None])[-1],
        "bank": bank,
        "queries": queries,
        "bank_sha256": data["train_sha256"],
        "queries_sha256": data["test_sha256"],
        "seed": file.protocol["seed"],
        "command": command,
    }
    return [
        {
            "protocol": _protocol(file, name, measure),
            "metric": _metric(measure),
            **_figures(measure, score),
            **about,
        }
        for name, measures in file.scores.items()
        for measure, score in measures.items()
        if isfinite(score["value"])
    ]


def evaluation_of(protocol: str) -> str | None:
    """The evaluation that measures a protocol as a card names it; None of one that is not ours."""
    return next((name for words, name in EVALUATION_OF.items() if protocol.startswith(words)), None)


def require_own_card(model: str | Path) -> ModelFolder:
    """The folder of a model whose card may be written.

    Raises:
        UsageError: it is bundled, in a cache, not writable, or has no receipts.
        PaucError: as open_folder() does.
    """
    place = locate(model).place
    if not isinstance(place, Path):
        raise UsageError(
            f"the card of '{model}' lies in a cache, and into_card=True writes none there. "
            "Fetch the model into a folder of your own, `pauc pull`, and give that."
        )
    if place.resolve() in [each.resolve() for each in bundled_folders()]:
        raise UsageError(
            f"'{model}' is bundled with this package, and its card stays as it is. Copy "
            f"'{place}', and give the copy."
        )
    folder = open_folder(place)
    missing = [name for name in (FACTS, CARD) if name not in folder.sums]
    if missing:
        raise UsageError(
            f"'{place}' has no {' and no '.join(missing)}, into which scores could go. `pauc "
            "train` and `pauc convert` "
            "write folders that have."
        )
    if not os.access(place, os.W_OK):
        raise UsageError(f"'{place}' cannot be written, so into_card=True cannot be done.")
    folder.verify(FACTS, CARD)
    return folder


def write_into_card(model: str | Path, file: ScoresFile, command: str) -> Path:
    """Put scores into a model folder, in place of the same ones measured earlier; all else stays as
    it is.

    Returns:
        The folder.

    Raises:
        ModelFolderError: the weights are no longer those that were measured, or the card was edited
            in its scores.
        UsageError: as require_own_card() does.
    """
    folder = require_own_card(model)
    if folder.weights_sha256 != file.origin.weights_sha256:
        raise ModelFolderError(
            f"'{folder.path}' has other weights now than those that were measured. Measure again."
        )
    facts = folder.facts
    rows = card_scores(file, command)
    taken = {_identity(row) for row in rows}
    kept = [row for row in facts.get("scores", ()) if _identity(row) not in taken]
    changed = facts | {"scores": [*kept, *rows]}
    card = _with_scores(
        (folder.path / CARD).read_text(encoding="utf-8"), facts, changed, folder.path
    )
    files = {
        FACTS: (json.dumps(changed, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(),
        CARD: card.encode(),
    }
    others = {name: read_bytes(folder.path / name) for name in folder.sums if name not in files}
    replace_files(folder.path, files | {SUMS: format_sums(others | files)})
    return folder.path


def _with_scores(card: str, before: Mapping[str, Any], now: Mapping[str, Any], place: Path) -> str:
    """The card with its section of scores, and what the Hub reads of them, written anew."""
    old, new = score_section(before), score_section(now)
    if old in card:
        card = card.replace(old, new, 1)
    elif "## Scores" not in card:
        card = f"{card.rstrip()}\n\n{new}\n".lstrip()
    else:
        raise ModelFolderError(
            f"'{place / CARD}' was edited in its section of scores, which would be lost. "
            "Restore that section, or "
            "delete it whole."
        )
    return with_scores(card, now)


def _identity(score: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(score.get(key)) for key in IDENTITY)


def _protocol(file: ScoresFile, evaluation: str, measure: str) -> str:
    without = f", {COPIES}" if measure.endswith(WITHOUT_COPIES) else ""
    match evaluation:
        case "linear":
            return LINEAR + without
        case "knn":
            chosen = file.settings["knn"]
            smallest = min(each["k"] for each in chosen.get("chosen_by_fold", [chosen]))
            temperature = chosen.get("chosen_by_fold", [chosen])[0]["temperature"]
            return KNN.format(k=smallest, temperature=temperature) + without
        case "lowshot":
            shots = measure.replace(" a class", " images a class").replace("1 images", "1 image")
            return LOW_SHOT.format(shots=shots)
        case "clustering":
            return CLUSTERING.format(classes=len(file.data["classes"]))
    return GEOMETRY


def _metric(measure: str) -> str:
    stem = measure.removesuffix(WITHOUT_COPIES)
    if measure.endswith(" a class"):
        return SHARES["top1"]
    return SHARES.get(stem) or MEASURES.get(stem) or stem


def _figures(measure: str, score: Mapping[str, Any]) -> dict[str, float]:
    """Shares in % with two decimals, as a card has them; the others with four."""
    is_share = _metric(measure) in SHARES.values()
    factor, digits = (100, 2) if is_share else (1, 4)
    return {
        key: round(factor * score[key], digits)
        for key in ("value", "low", "high")
        if isfinite(score[key])
    }


def _short(name: str) -> str:
    """`photos (train)` for the table `/data/photos.parquet (train)`."""
    place, _, split = name.partition(" (")
    stem = Path(place).name.removesuffix(".parquet").removesuffix(".embeddings")
    return f"{stem} ({split}" if split else stem
