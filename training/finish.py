"""The end of a run: the last E-step, the calibration of its prototypes, and the model folder."""

import dataclasses
import sys
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pauc_hub.clustering.prototype_set import Calibration
from pauc_hub.errors import ClusteringFailed
from pauc_hub.progress import progress_bar
from pauc_hub.training.calibration import RECLUSTERINGS, calibrate_clusterings
from pauc_hub.training.data.views import epoch_batches
from pauc_hub.training.derived import FEWEST_KEPT_OUT
from pauc_hub.training.estep import Expectation, reason_and_remedy
from pauc_hub.training.expectation_step import AllFeatures, encode_images, expectation_step
from pauc_hub.training.monitoring import before_after
from pauc_hub.training.monitoring.curves import drawn
from pauc_hub.training.monitoring.history import read_history
from pauc_hub.training.monitoring.log import Log
from pauc_hub.training.networks.norms import BATCHES_MEASURED, measure_statistics
from pauc_hub.training.networks.pretrained import load_weights
from pauc_hub.training.run import checkpoint_files, run_folder
from pauc_hub.training.run.publish import Finished, publish
from pauc_hub.training.state import Training

# images on which the rounding of the published weights is checked
SAMPLE = 256


def finish(state: Training, log: Log) -> Path:
    """A last E-step with the encoder that is exported, whose prototypes go with it; then the model
    folder.

    An objective without clusters ends with its model in any case, without prototypes where there
    can be none.
    """
    if state.config.progressive_sizes:
        _measure_statistics(state)
    found = state.world.decided_by_first(
        lambda: before_after.compare_with_start(state, log.labelled)
    )
    if found and found.get("knn", {}).get("kept") == "before":
        load_weights(state.pair.exported.backbone, state.config.weights_from, state.config.size)
    calibration = None
    try:
        _, features = expectation_step(state, state.pair.exported, state.config.size)
        calibration = _calibrated(state, features)
    except ClusteringFailed as failure:
        if state.config.objective != "infonce":
            raise
        state.expectation = Expectation((), ())
        if not state.quiet:
            reason, _ = reason_and_remedy(failure, state.loader)
            sys.stderr.write(f"warning: the model has no prototypes: {reason}\n")
    if state.world.first:
        _publish(state, log.scores(), found, calibration)
    state.world.wait()
    return state.run / run_folder.MODEL


def _calibrated(state: Training, features: AllFeatures) -> Calibration | None:
    """How far to trust the prototypes, by the images that were kept out of training; None without
    such.
    """
    kept = state.kept
    if kept is None or state.expectation is None:
        return None
    seen = encode_images(state, state.pair.exported, kept, "images kept out")
    points = _readable(state, *features, len(state.source))
    others = _readable(state, *seen, len(kept.source))
    kept.source.unreadable |= state.world.merge(kept.source.unreadable)
    if state.world.first:
        # those of the images kept out follow those that were trained on
        more = {
            len(state.source) + index: reason for index, reason in kept.source.unreadable.items()
        }
        names = [*state.source.names, *kept.source.names]
        run_folder.list_unreadable(state.run, state.source.unreadable | more, names)
    if len(others) < FEWEST_KEPT_OUT:
        return None
    rounds = -(-RECLUSTERINGS // state.world.size)
    with progress_bar(rounds, "calibrating", "rounds", quiet=state.quiet) as bar:

        def done() -> None:
            bar.advance(1)
            state.heed_signals()

        return calibrate_clusterings(
            points, others, state.expectation.prototypes, state.config.seed, state.world, done
        )


def _readable(state: Training, features: Tensor, readable: Tensor, total: int) -> Tensor:
    """Features of all readable images, from each process's own stretch of `total`."""
    everyone = state.world.gather(features.float(), total)
    return everyone[state.world.gather(readable.byte(), total).bool().to(everyone.device)]


def _measure_statistics(state: Training) -> None:
    """Batch-norm statistics of the exported encoder at the full side, from an epoch's batches or
    some of them.
    """
    config = dataclasses.replace(state.config, small_views=0)
    own = state.world.stretch(config.batch_size)
    count = min(state.steps, BATCHES_MEASURED)
    all_batches = epoch_batches(config, len(state.source), config.epochs)
    batches = (batch[own] for batch in islice(all_batches, count))
    with closing(state.loader.views(batches)) as views:
        images = (state.augment(batch.first, batch.draws[0]) for batch in views)
        measure_statistics(state.pair.exported, images, state.dtype, state.world)


def _publish(
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
    readable = [index for index in range(len(state.source)) if index not in state.source.unreadable]
    sample = readable[:SAMPLE]
    pixels = torch.cat([squares for squares, _ in state.loader.squares([sample])])
    # drawn now, so that the model folder has them too
    curves, _ = drawn(read_history(state.run), state.run / run_folder.RUN_CURVES)
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
