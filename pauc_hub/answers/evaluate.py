"""The function behind `pauc eval`: all measures of one or several models on labelled images."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pauc_hub.answers.assignments import check_place
from pauc_hub.answers.card_scores import require_own_card, write_into_card
from pauc_hub.answers.evaluation_plot import write_evaluation_plot
from pauc_hub.answers.measures import Asked, measure
from pauc_hub.answers.probe_plot import PLOT_SUFFIXES, check_plots
from pauc_hub.answers.scores_file import SCORES_SUFFIX, ScoresFile, write_scores
from pauc_hub.errors import UsageError
from pauc_hub.models.catalog import DEFAULT_MODEL, locate
from pauc_hub.sources import open_source
from pauc_hub.tables.stored import is_table
from pauc_hub.tables.table import companion


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What evaluate() found of one model."""

    file: ScoresFile
    output: Path
    notes: list[str] = field(default_factory=list)
    card: Path | None = None
    """The model folder into whose card the scores went."""


def evaluate(
    models: str | Path | Sequence[str | Path],
    data: str | Path,
    *,
    test: str | Path | None = None,
    output: str | Path | None = None,
    plot: str | Path | None = None,
    into_card: bool = False,
    space: str | None = None,
    labels: str | Path | None = None,
    label_column: str | None = None,
    group: str | None = None,
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
    quiet: bool = False,
) -> list[Evaluation]:
    """Measure models on labelled images: linear probe, kNN, low shots, clusterings, and the
    geometry of features.

        >>> (found,) = evaluate("pauc_resnet18", "labelled/", output="mine.scores.json", quiet=True)
        >>> found.file.scores["linear"]["top1"]["value"]
        1.0

    Images are embedded once for each model, and each gets a scores file, which compare() takes.

    Args:
        models: what `pauc embed` takes as a model; none where `data` is a table.
        data: labelled images, or a table of them. Below folders named train and val or test, these
            are the training and the test images; otherwise, without `test`, they are
            cross-validated in five folds.
        test: test images.
        output: the scores file, .scores.json, or a folder for those of several models; beside the
            images unless given.
        plot: picture of confusion, calibration and low shots of all models, .png or .svg.
        into_card: write the scores into each model folder too: facts.json, README.md and
            SHA256SUMS.
        space: to embed images in; `backbone` unless given.
        labels, label_column, group: as for probe().
        seed: of folds, draws, clusterings and resamples.
        device: where images are embedded and classifiers fitted.
        overwrite: replace scores files that are there.
        quiet: neither progress bars nor a word on stderr.

    Raises:
        UsageError: labels are missing, do not match, or are too few; a table and models are given;
            `into_card` of a model whose folder is not the user's own.
        PaucError: as embed() does.
    """
    chosen = _models(models, data, into_card)
    asked = Asked(data, test, space, labels, label_column, group, seed, device, quiet)
    if plot:
        check_place(Path(plot), PLOT_SUFFIXES, overwrite)
        check_plots()
    if into_card:
        for name in chosen:
            require_own_card(name)
    outputs = _outputs(chosen, data, output, overwrite)
    found = []
    each_model: list[str | None] = [*chosen] or [None]
    for model, place in zip(each_model, outputs, strict=True):
        scores, notes = measure(model, asked)
        write_scores(place, scores)
        card = None
        if into_card and model:
            card = write_into_card(model, scores, _command(model, asked))
        found.append(Evaluation(scores, place, notes, card))
    if plot:
        _plot(found, chosen, Path(plot))
    return found


def _models(
    models: str | Path | Sequence[str | Path], data: str | Path, into_card: bool
) -> list[str]:
    """The models that were asked for, each of them there; none of a table."""
    chosen = [str(models)] if isinstance(models, str | Path) else [str(each) for each in models]
    if is_table(Path(data)):
        if chosen:
            raise UsageError(
                f"'{data}' is a table, which a model made already. Leave '{chosen[0]}' out, or "
                "give images."
            )
        if into_card:
            raise UsageError(
                f"into_card=True needs a model, and '{data}' is a table. Give the model and the "
                "images."
            )
        return []
    chosen = chosen or [DEFAULT_MODEL]
    for name in chosen:
        locate(name)
    return chosen


def _plot(found: list[Evaluation], models: Sequence[str], path: Path) -> None:
    if found[0].file.protocol["several_labels"]:
        found[0].notes.append(
            f"'{path}' is not drawn: images with several labels have neither confusion nor low "
            "shots"
        )
        return
    names = [Path(model).name for model in models] or [found[0].file.origin.model]
    write_evaluation_plot([each.file for each in found], names, path)


def _command(model: str, asked: Asked) -> str:
    """What measures the same again."""
    options = {
        "--test": asked.test,
        "--labels": asked.labels,
        "--label-column": asked.label_column,
        "--group": asked.group,
        "--space": asked.space,
        "--seed": asked.seed or None,
    }
    command = ["pauc", "eval", model, str(asked.data)]
    for option, value in options.items():
        if value is not None:
            command += [option, str(value)]
    return shlex.join(command)


def _outputs(
    models: list[str], data: str | Path, output: str | Path | None, overwrite: bool
) -> list[Path]:
    """Where each scores file goes, once it is known that it can."""
    names = [Path(model).name for model in models]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UsageError(
            f"two models are named '{twice}', and so would their scores be. Evaluate one after "
            "the other."
        )
    if output and len(names) < 2 and not Path(output).is_dir():
        places = [Path(output)]
    elif output and not Path(output).is_dir():
        raise UsageError(
            f"output='{output}' must be a folder that exists, for the scores of {len(names)} "
            "models."
        )
    else:
        beside = Path(data).absolute() if Path(data).name in ("", "..") else Path(data)
        if not output and not beside.exists():
            # which says if there is nothing at all
            open_source(data)
            raise UsageError(
                f"the scores of '{data}' need a place: give output=PLACE{SCORES_SUFFIX}."
            )
        suffixes = [f".{name}{SCORES_SUFFIX}" for name in names] or [SCORES_SUFFIX]
        named = [companion(beside, suffix) for suffix in suffixes]
        places = [Path(output) / each.name for each in named] if output else named
    for place in places:
        check_place(place, (SCORES_SUFFIX,), overwrite)
    return places
