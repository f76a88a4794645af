"""Whether a model folder is what it says it is, as far as that can be told without images."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pauc_hub.errors import ModelFolderError
from pauc_hub.files.checksums import SUMS
from pauc_hub.inference.model import Model, load
from pauc_hub.models.card import score_row
from pauc_hub.models.folder import CARD, FACTS, ModelFolder
from pauc_hub.models.opening import open_model


@dataclass(frozen=True)
class ScoreCheck:
    """A score on a card, and what it is here and now."""

    protocol: str
    metric: str
    queries: str
    told: float
    """On the card."""
    found: float | None
    """None where it was not measured."""
    tolerance: float
    """What rounding and the arithmetic of another processor explain."""
    reason: str = ""
    """Why it was not measured."""

    @property
    def holds(self) -> bool | None:
        """None where it was not measured."""
        return None if self.found is None else abs(self.told - self.found) <= self.tolerance + 1e-9


@dataclass(frozen=True)
class Verified:
    """What verify() found; all of it holds but, where they were measured, perhaps some scores."""

    model: str
    weights_sha256: str
    checks: tuple[str, ...]
    """What was compared, in words."""
    scores: tuple[ScoreCheck, ...] = ()


def verify_folder(model: str | Path, *, quiet: bool = False) -> Verified:
    """Check sums, format, weights, and that card and facts agree.

    Args:
        model: what load() takes; what is not here is fetched.
        quiet: no progress bar while something is fetched.

    Raises:
        UnknownModel, MissingWeights: there is no such model.
        ModelFolderError: something does not hold; it says what.
        HubError: it cannot be fetched.
    """
    folder = open_model(model, quiet=quiet)
    folder.verify()
    checks = [_count(len(folder.sums), "sha256 sum")]
    loaded = load(folder, device="cpu", precision="fp32", quiet=True)
    checks.append(_weights(loaded))
    checks += _space(folder)
    if folder.pauc:
        checks.append(_receipts(folder))
    return Verified(folder.name, folder.weights_sha256, tuple(checks))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"


def _weights(model: Model) -> str:
    """They fit the network, and give finite features of the width that config.json says."""
    side = model.preprocessing.size
    # Two squares: a network that ignores its input would answer both alike.
    squares = torch.stack([torch.zeros(side, side, 3), torch.full((side, side, 3), 200.0)]).to(
        torch.uint8
    )
    features = model.encode(squares)
    if not features.isfinite().all():
        raise ModelFolderError(
            f"'{model.folder.path}' gives features that are not finite. Its weights are unusable."
        )
    told = model.folder.config.get("num_features")
    if told is not None and features.shape[1] != told:
        raise ModelFolderError(
            f"'{model.folder.path}' gives {features.shape[1]} features, but its config.json "
            f"says {told}."
        )
    if torch.equal(features[0], features[1]):
        raise ModelFolderError(
            f"'{model.folder.path}' gives the same features for black and for white images."
        )
    return f"weights ({model.folder.config['architecture']}, {features.shape[1]} features)"


def _space(folder: ModelFolder) -> list[str]:
    """Projector and prototypes, which must be of one width."""
    projector = folder.read_projector()
    prototypes = folder.read_prototypes()
    widths = {clustering.centroids.shape[1] for clustering in prototypes}
    if projector is not None:
        widths.add(len(projector["output.weight"]))
    if len(widths) > 1:
        named = ", ".join(map(str, sorted(widths)))
        raise ModelFolderError(
            f"'{folder.path}' has prototypes and a projector of different widths: {named}."
        )
    found = ["projector"] if projector is not None else []
    if prototypes:
        found.append(
            f"prototypes ({', '.join(str(len(clustering.sizes)) for clustering in prototypes)})"
        )
    return found


def _receipts(folder: ModelFolder) -> str:
    """What facts.json, config.json and README.md say of the same things."""
    facts = folder.facts
    for name in (FACTS, CARD):
        if name not in folder.sums:
            raise ModelFolderError(f"'{folder.path}' has no {name} in its {SUMS}.")
    card = (folder.path / CARD).read_text(encoding="utf-8", errors="replace")
    problems = [*_contradictions(facts, folder.config), *_unsaid(facts, card)]
    if problems:
        raise ModelFolderError(f"'{folder.path}' contradicts itself: {'; '.join(problems)}.")
    return f"card and facts ({_count(len(facts.get('scores', ())), 'score')})"


def _contradictions(facts: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    said = facts.get("architecture", config["architecture"])
    if said == config["architecture"]:
        return []
    return [f"{FACTS} says {said}, config.json {config['architecture']}"]


def _unsaid(facts: Mapping[str, Any], card: str) -> list[str]:
    """Facts that the card must state and does not."""
    missing = [
        f"{CARD} does not state {score['protocol']} = {score['value']}"
        for score in facts.get("scores", ())
        if score_row(score) not in card
    ]
    architecture = facts.get("architecture")
    if architecture and architecture not in card:
        missing.append(f"{CARD} does not name {architecture}")
    return missing
