"""The end of a run: its model folder."""

from typing import Any

import torch

from pauc_hub.clustering.prototype_set import Calibration
from pauc_hub.training.monitoring.curves import drawn
from pauc_hub.training.monitoring.history import read_history
from pauc_hub.training.run import checkpoint_files, run_folder
from pauc_hub.training.run.publish import Finished, publish
from pauc_hub.training.state import Training

# images on which the rounding of the published weights is checked
SAMPLE = 256


def publish_run(
    state: Training,
    scores: list[dict[str, Any]],
    found: dict[str, Any],
    calibration: Calibration | None,
) -> None:
    """Write the model folder of a run that stands behind its last E-step.

    Args:
        scores: for the card.
        found: what was compared before and after.

    Raises:
        TrainingFailed: there is no room for it.
    """
    assert state.expectation is not None, "the E-step sets it"
    sample = [index for index in range(len(state.source)) if index not in state.source.unreadable][
        :SAMPLE
    ]
    pixels = torch.cat([squares for squares, _ in state.loader.squares([sample])])
    # Now, so that the model folder has them too.
    curves, _ = drawn(read_history(state.run), state.run / run_folder.CURVES)
    finished = Finished(
        encoder=state.pair.exported,
        expectation=state.expectation,
        sample=pixels,
        source=state.source,
        preprocessing=state.loader.preprocessing,
        config=state.config,
        seconds=state.seconds,
        command=state.command,
        scores=scores,
        schedules=state.schedules,
        before_after=found,
        curves=curves,
        calibration=calibration,
        kept_out=len(state.kept.source) if state.kept else 0,
        done=(state.epoch, state.step),
    )
    path = state.run / run_folder.MODEL
    with run_folder.explained(path):
        publish(finished, path)
    if not finished.unfinished:
        checkpoint_files.keep(state.run, 1)  # to write the model folder anew
