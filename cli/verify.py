"""`pauc verify`: whether a model is what it says it is."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pauc_hub.cli import options
from pauc_hub.cli.failures import FAILED
from pauc_hub.terminal import escaped

if TYPE_CHECKING:  # takes seconds to import
    from collections.abc import Sequence

    from pauc_hub.hub.verify import ScoreCheck


def verify(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=options.MODEL_HELP)],
    scores: Annotated[
        str | None,
        typer.Option(
            metavar="DATA", help="Measure the scores on the card again, on these labelled images."
        ),
    ] = None,
    test: Annotated[
        str | None, typer.Option(help="Test images, if DATA holds the training images alone.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help=(
                "CSV or Parquet file with the columns path and label (default: folders are labels)."
            )
        ),
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Column of labels (default: label).")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(help="Column of groups that are never split, such as videos or patients."),
    ] = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Check a model: checksums, format, weights, that card and facts agree, and with --scores its
    scores.
    """
    from pauc_hub.answers.verify import verify as verify_model

    verified = verify_model(
        model,
        scores=scores,
        test=test,
        labels=labels,
        label_column=label_column,
        group=group,
        device=device,
        quiet=quiet,
    )
    if as_json:
        checks = [_as_object(check) for check in verified.scores]
        print(json.dumps(asdict(verified) | {"scores": checks}, ensure_ascii=False))
    elif not quiet:
        all_holds = "all holds" if scores is None else "holds"
        print(f"{verified.model}: {all_holds}: {', '.join(verified.checks)}")
        print(
            "\n".join(map(escaped, as_lines(verified.scores))), end="\n" if verified.scores else ""
        )
    verdicts = {check.holds for check in verified.scores}
    if scores and (False in verdicts or True not in verdicts):
        raise typer.Exit(FAILED)


def _as_object(check: "ScoreCheck") -> dict[str, Any]:
    return asdict(check) | {"holds": check.holds}


def as_lines(checks: "Sequence[ScoreCheck]") -> list[str]:
    """A line for each score that was measured, and one for each reason why others were not."""
    lines = [sentence(check) for check in checks if check.found is not None]
    reasons = Counter(check.reason for check in checks if check.found is None)
    for reason, count in reasons.items():
        if count == 1:
            lines += [
                sentence(check)
                for check in checks
                if check.reason == reason and check.found is None
            ]
        else:
            lines.append(f"  not measured  {count} scores, of each of which: {reason}")
    return lines


def sentence(check: "ScoreCheck") -> str:
    """What is said of a score."""
    what = f"{check.protocol}, {check.metric}, {check.queries}"
    if check.found is None:
        return f"  not measured  {what}: {check.reason}"
    if check.holds:
        return f"  holds         {what}: {check.told:g} on the card, {check.found:g} now"
    gap = f"differs by {abs(check.found - check.told):.4g}, more than {check.tolerance:.2g}"
    return f"  differs       {what}: {check.told:g} on the card, {check.found:g} now, {gap}"
