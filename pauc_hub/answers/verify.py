"""The function behind `pauc verify`: whether a model is what it says it is, its scores included."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pauc_hub.answers.card_scores import card_scores, evaluation_of
from pauc_hub.answers.measures import Asked, describe_data, measure_opened, open_asked
from pauc_hub.errors import TableError, UsageError
from pauc_hub.hub.verify import ScoreCheck, Verified, verify_folder
from pauc_hub.models.opening import open_model
from pauc_hub.tables.stored import is_table

FLIPPED = 5e-4
"""Share of images that fall to the other side on another processor, about; at least one image
may.
"""
RELATIVE = 0.01
"""Of a measure that is no share of images."""

UNKNOWN_PROTOCOL = "its protocol is none of `pauc eval`"

_Score = Mapping[str, Any]


def verify(
    model: str | Path,
    *,
    scores: str | Path | None = None,
    test: str | Path | None = None,
    labels: str | Path | None = None,
    label_column: str | None = None,
    group: str | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> Verified:
    """Check sums, format, weights, that card and facts agree, and, with `scores`, that they come
    out again.

        >>> verify("pauc_resnet18").model
        'pauc_resnet18.tiny_imagenet'

    With `scores="tiny-imagenet-200"` each of `.scores` says whether it `holds`.

    Args:
        model: what load() takes; what is not here is fetched.
        scores: labelled images that the scores on the card are about, or a table of them made by
            this model.
        test: test images, where `scores` holds the training images alone.
        labels, label_column, group: as for evaluate().
        device: where images are embedded and classifiers fitted.
        quiet: no progress bar.

    Returns:
        What holds. Scores that differ, or are about other images, are among `scores`, and raise
        nothing.

    Raises:
        UnknownModel, MissingWeights: there is no such model.
        ModelFolderError: something but a score does not hold; it says what.
        UsageError: there are no scores on the card; the images are not labelled.
        HubError: it cannot be fetched.
        PaucError: as embed() does.
    """
    verified = verify_folder(model, quiet=quiet)
    if scores is None:
        return verified
    told = [*open_model(model, quiet=quiet).facts.get("scores", ())]
    if not told:
        raise UsageError(
            f"'{verified.model}' has no scores on its card. `pauc eval MODEL IMAGES "
            "--into-card` writes some."
        )
    source = None if is_table(Path(scores)) else str(model)
    asked = Asked(scores, test, None, labels, label_column, group, 0, device, quiet)
    return replace(verified, scores=tuple(check_scores(told, source, asked, verified)))


def check_scores(
    told: Sequence[_Score], model: str | None, asked: Asked, verified: Verified | None = None
) -> Iterator[ScoreCheck]:
    """Measure scores again, each by its own protocol, space and seed.

    Args:
        told: as facts.json has them.
        model: None where the data are a table.
        asked: the images; whatever else it says of evaluations, space and seed does not count.
        verified: what must have made the embeddings.

    Raises:
        TableError: something else made them.
    """
    for space, seed in dict.fromkeys(map(_run_of, told)):
        some = [score for score in told if _run_of(score) == (space, seed)]
        yield from _check_run(some, model, replace(asked, space=space, seed=seed), verified)


def _check_run(
    told: Sequence[_Score], model: str | None, asked: Asked, verified: Verified | None
) -> Iterator[ScoreCheck]:
    """Scores of one space and seed; what is about other images is not measured."""
    known = {id(score) for score in told if evaluation_of(score["protocol"])}
    if not known:
        yield from (_unmeasured(score, UNKNOWN_PROTOCOL) for score in told)
        return
    learned, tested = open_asked(model, asked)
    origin = learned.given.origin
    if verified and origin.weights_sha256 != verified.weights_sha256:
        raise TableError(
            f"'{asked.data}' was made by {origin}, and not by '{verified.model}'. Give the images."
        )
    data = describe_data(learned, tested)
    wanted = [score for score in told if id(score) in known and _same_data(score, data)]
    found: dict[tuple[str, str], float] = {}
    if wanted:
        only = frozenset(name for score in wanted if (name := evaluation_of(score["protocol"])))
        file, _ = measure_opened(learned, tested, model, replace(asked, only=only))
        found = {(row["protocol"], row["metric"]): row["value"] for row in card_scores(file, "")}
    for score in told:
        if id(score) not in known:
            yield _unmeasured(score, UNKNOWN_PROTOCOL)
        elif not _same_data(score, data):
            yield _unmeasured(score, _other_data(score, data))
        else:
            yield _check(score, found, data["images"])


def _run_of(score: _Score) -> tuple[str, int]:
    return str(score.get("space", "backbone")), int(score.get("seed") or 0)


def _check(score: _Score, found: Mapping[tuple[str, str], float], images: int) -> ScoreCheck:
    # Training adds the chance level to a protocol's name.
    value = found.get((str(score["protocol"]).partition(";")[0], score["metric"]))
    if value is None:
        return _unmeasured(score, "`pauc eval` does not measure it here")
    return replace(_unmeasured(score, ""), found=value, tolerance=_tolerance(score, images))


def _unmeasured(score: _Score, reason: str) -> ScoreCheck:
    queries = str(score.get("queries", ""))
    return ScoreCheck(
        score["protocol"], score["metric"], queries, float(score["value"]), None, 0.0, reason
    )


def _same_data(score: _Score, data: Mapping[str, Any]) -> bool:
    """By the digests of paths and labels where the card has them, else by the numbers of images."""
    if "bank_sha256" in score:
        return (score["bank_sha256"], score["queries_sha256"]) == (
            data["train_sha256"],
            data["test_sha256"],
        )
    return (_count(score.get("bank")), _count(score.get("queries"))) == (
        data["train_images"],
        data["images"],
    )


def _count(said: object) -> int | None:
    """100000 of `Tiny ImageNet train, 100,000`."""
    number = str(said).rpartition(", ")[2].partition(" ")[0].replace(",", "")
    return int(number) if number.isdecimal() else None


def _other_data(score: _Score, data: Mapping[str, Any]) -> str:
    about = f"it is about {score.get('bank')} and {score.get('queries')}"
    given = f"given are {data['train_images']:,} training and {data['images']:,} test images"
    return f"{about}; {given}{', of other paths or labels' if 'bank_sha256' in score else ''}"


def _tolerance(score: _Score, images: int) -> float:
    evaluation = evaluation_of(score["protocol"])
    if evaluation == "clustering" and "low" in score:
        # other arithmetic leads k-means to other clusters, as another seed does
        return float(score["high"] - score["low"]) / 2
    if str(score["metric"]).endswith("%"):
        return 100 * max(FLIPPED, 1 / images)
    return RELATIVE * abs(float(score["value"]))
