"""The function behind `pauc probe`: how well labels can be read off embeddings, and the classifier
that does it.
"""

import time
from dataclasses import replace
from pathlib import Path

from pauc_hub.answers import protocols
from pauc_hub.answers.assignments import check_place
from pauc_hub.answers.labelled import class_names
from pauc_hub.answers.probe_file import PROBE_SUFFIX, ProbeFile, write_probe
from pauc_hub.answers.probe_plot import PLOT_SUFFIXES, check_plots, write_plot
from pauc_hub.answers.probe_report import Findings, Report
from pauc_hub.answers.protocols import Question
from pauc_hub.answers.questions import notes_of, open_labelled, pose_question
from pauc_hub.errors import UsageError
from pauc_hub.evaluation.linear_probe import Probe
from pauc_hub.progress import progress_bar
from pauc_hub.sources.annotations import WantedColumns, read_labels_file

PROTOCOLS = ("linear", "knn", "lowshot", "pcl-voc07", "semi")


def probe(
    train: str | Path,
    test: str | Path | None = None,
    *,
    output: str | Path | None = None,
    plot: str | Path | None = None,
    model: str | Path | None = None,
    space: str | None = None,
    protocol: str = "linear",
    labels: str | Path | None = None,
    label_column: str | None = None,
    group: str | None = None,
    difficult: str | None = None,
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
    quiet: bool = False,
) -> Report:
    """Fit a classifier on labelled embeddings, and score it on others.

        >>> report = probe("labelled.parquet", output="mine.probe.safetensors", quiet=True)
        >>> report.classes, report.findings.scores.totals["top1"].value
        (['blue', 'red'], 1.0)

    Nothing is chosen on test images. Test images of which a copy is among the training images are
    looked for first, and scores are given with and without them.

    Args:
        train: a table, or images, which are embedded first. Below folders named train and val or
            test, these are the training and the test images.
        test: the same, of other images; without it, training images are cross-validated in five
            folds.
        output: the probe file, .safetensors; of protocol `linear` alone.
        plot: a picture to draw, .png or .svg: confusion matrix and reliability curve, or scores
            over draws.
        model: what embeds images; `pauc_resnet18` unless given. No matter for tables.
        space: to embed images in; `backbone` unless given.
        protocol: `linear`, `knn`, `lowshot`, `pcl-voc07` or `semi` (docs/probe.md).
        labels: a CSV or Parquet file with the columns path and label. Otherwise labels are a column
            beside the images in their Parquet file, `.cls` members of their tars, or the first
            folder of their paths.
        label_column: the column of labels; `label`, or the one that holds classes, unless given.
        group: a column of names of what must stay together, such as videos or patients.
        difficult: a column of lists of the classes that are hard to tell in an image, for
            `pcl-voc07`.
        seed: of folds, draws and resamples.
        device: where images are embedded and classifiers fitted.
        overwrite: replace a probe file or picture that is there.
        quiet: neither progress bars nor a word on stderr.

    Raises:
        UsageError: labels are missing, do not match, or are too few; the protocol does not apply;
            before any fit.
        OriginMismatch: the tables were made by different models, in different spaces, or from other
            pixels.
        PaucError: as embed() does.
    """
    started = time.monotonic()
    _check_options(protocol, output, plot, overwrite)
    wanted = WantedColumns(label_column, group, difficult)
    file = read_labels_file(Path(labels), wanted) if labels else None

    learned, asked = open_labelled(
        train,
        test,
        file,
        wanted,
        model=model,
        space=space or "backbone",
        device=device,
        quiet=quiet,
    )
    classes = class_names(learned.labels)
    question, copies = pose_question(
        learned, asked, classes, model=model, device=device, seed=seed, quiet=quiet
    )
    with progress_bar(protocols.fits(protocol, asked is not None), "fitting", "fits", quiet) as bar:
        resources = replace(question.resources, advance=bar.advance)
        findings, found = _answer(protocol, replace(question, resources=resources))
    report = Report(
        protocol=protocol,
        model=learned.given.origin.model,
        space=learned.given.origin.space,
        train=learned.name,
        train_images=len(learned),
        test=None if asked is None else asked.name,
        test_images=len(learned if asked is None else asked),
        unreadable=learned.given.unreadable + (asked.given.unreadable if asked and test else 0),
        classes=classes,
        findings=findings,
        copies=copies,
        seed=seed,
        output=Path(output) if output else None,
        notes=notes_of(learned, asked, question.copied),
        seconds=time.monotonic() - started,
    )
    if output and found:
        write_probe(
            Path(output), ProbeFile(found.model, classes, learned.given.origin, report.to_dict())
        )
    if plot:
        write_plot(report, Path(plot))
    return report


def _check_options(
    protocol: str, output: str | Path | None, plot: str | Path | None, overwrite: bool
) -> None:
    if protocol not in PROTOCOLS:
        raise UsageError(f"unknown protocol '{protocol}'. Use one of {', '.join(PROTOCOLS)}.")
    if output and protocol != "linear":
        raise UsageError(
            f"output='{output}': protocol={protocol} makes no probe file. Leave it out."
        )
    if output:
        check_place(Path(output), (PROBE_SUFFIX,), overwrite)
    if plot:
        check_place(Path(plot), PLOT_SUFFIXES, overwrite)
        check_plots()


def _answer(protocol: str, question: Question) -> tuple[Findings, Probe | None]:
    match protocol:
        case "linear":
            return protocols.linear(question)
        case "knn":
            return protocols.knn(question), None
        case "lowshot":
            return protocols.lowshot(question), None
        case "pcl-voc07":
            return protocols.voc07(question), None
    return protocols.semi(question), None
