"""The EM loop: a warm-up, then each epoch an E-step and an M-step over all batches; reads like Algorithm 1 of PCL."""

import math
import sys
import time
from contextlib import closing
from pathlib import Path

import torch
from torch import Tensor

from pauc_hub.device import choose_device
from pauc_hub.embed import default_workers
from pauc_hub.errors import Interrupted, TrainingFailed
from pauc_hub.progress import progress_bar
from pauc_hub.training import checkpoint, record, shelf
from pauc_hub.training.config import Config
from pauc_hub.training.data import ImageSource, open_source
from pauc_hub.training.diagnostics import diagnose
from pauc_hub.training.draws import Purpose, torch_draws
from pauc_hub.training.estep import all_features, expect
from pauc_hub.training.interruption import StopRequest
from pauc_hub.training.machine import limits_explained
from pauc_hub.training.mstep import learn
from pauc_hub.training.publish import Finished, publish
from pauc_hub.training.recipes import settle
from pauc_hub.training.state import Training, new_training

STEPS_BETWEEN_LINES = 10  # of metrics.jsonl
SAMPLE = 256  # images on which the rounding of the published weights is checked


def train(
    images: Path | ImageSource,
    run: Path,
    config: Config | None = None,
    *,
    device: str = "auto",
    workers: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    command: str = "",
) -> Path:
    """Pretrain on a folder or tar files, and export a model folder.

    Args:
        images: a folder of any nesting, a tar file, or a folder of tar files, or what open_source() made of it; labels
            are neither needed nor looked for.
        run: folder for config, metrics, checkpoint and, at the end, `model/`.
        config: what to do; its `None`s are chosen from the number of images, and all of it where it is None itself
            (recipes.py). A resumed run keeps its own.
        workers: threads that decode; one for each core unless given.
        resume: go on from the run's checkpoint.
        command: what was typed, for the receipts.

    Returns:
        The model folder.

    Raises:
        UsageError, NoImages, OutputExists: before anything starts.
        Interrupted: after Ctrl-C or SIGTERM, with everything saved.
        TrainingFailed: the run cannot go on; the last checkpoint stands.
    """
    source, where = images if isinstance(images, ImageSource) else open_source(images), choose_device(device)
    settled = record.saved_config(run) if resume else config or settle(source, where, {})[0]
    config = settled.resolve(len(source))
    with (
        record.held(run, config, resume=resume, overwrite=overwrite),
        StopRequest() as stop,
        limits_explained(config),
    ):
        place = checkpoint.read_place(run, source.fingerprint(), quiet=quiet) if resume else None
        state = new_training(run, config, source, where, workers or default_workers(), stop, quiet, command)
        if place is not None:
            state.resume_from(place)
        else:
            state.save()  # a disk without room for it is told of now, not after the first epoch
        try:
            _alternate(state)
            return _finish(state)
        except Interrupted:
            state.save()
            raise


def _alternate(state: Training) -> None:
    metrics = record.Metrics(state.run, state.epoch, state.step)
    while state.epoch < state.config.epochs:
        if state.config.objective != "infonce" and state.epoch >= state.config.warmup_epochs and state.step == 0:
            state.watched = _expectation_step(state)
        watched = state.watched | _maximisation_step(state, metrics)
        state.epoch, state.step, state.watched = state.epoch + 1, 0, {}
        means = metrics.write_epoch(state.epoch, watched)
        state.save()
        _report(state, means, watched)
        state.heed_signals()


def _expectation_step(state: Training) -> dict[str, float]:
    """Prototypes from all images; returns what is worth watching about them."""
    began, before = time.monotonic(), state.expectation
    with progress_bar(len(state.source), f"epoch {state.epoch + 1}: E-step", quiet=state.quiet) as bar:

        def seen(count: int) -> None:
            bar.advance(count)
            state.heed_signals()

        batch_size = 2 * state.config.batch_size  # without gradients there is room for more
        features, readable = all_features(state.pair.key, state.loader, state.device, state.dtype, batch_size, seen)
    state.expectation = expect(features, readable, state.config, state.epoch)
    record.list_unreadable(state.run, state.source.unreadable, state.source.names)
    watched = diagnose(features, readable, state.expectation, before, state.config)
    return watched | {"estep_seconds": time.monotonic() - began}


def _maximisation_step(state: Training, metrics: record.Metrics) -> dict[str, float]:
    """Learn from all batches of the epoch that are left; returns how fast it went."""
    config, began, waited = state.config, time.monotonic(), 0.0
    order = torch.randperm(len(state.source), generator=torch_draws(config.seed, Purpose.ORDER, state.epoch)).tolist()
    batches = [order[i * config.batch_size : (i + 1) * config.batch_size] for i in range(state.step, state.steps)]
    images = len(batches) * config.batch_size
    with (
        closing(state.loader.views(batches, config.crop_min, config.seed, state.epoch)) as views,
        progress_bar(images, f"epoch {state.epoch + 1}/{config.epochs}", quiet=state.quiet) as bar,
    ):
        for _ in batches:
            asked = time.monotonic()
            batch = next(views)
            waited += time.monotonic() - asked
            terms = learn(state, batch)
            state.step += 1
            if state.step % STEPS_BETWEEN_LINES == 0 or state.step == state.steps:
                values = _finite(terms, state)
                metrics.write_step(state.epoch, state.step, values | {"lr": state.optimiser.param_groups[0]["lr"]})
                share = _estep_share(state.watched, time.monotonic() - began)
                bar.note(**{name: round(value, 3) for name, value in values.items()}, **{"E-step": f"{share:.0%}"})
            bar.advance(config.batch_size)
            if state.step < state.steps:  # the last step's save follows, with the epoch's own line
                state.heed_signals()
                state.save_now_and_then()
    seconds = time.monotonic() - began
    return {"images_per_second": images / seconds, "data_wait": waited / seconds, "mstep_seconds": seconds}


def _finite(terms: dict[str, Tensor], state: Training) -> dict[str, float]:
    values = {name: term.item() for name, term in terms.items()}
    if not all(math.isfinite(value) for value in values.values()):
        raise TrainingFailed(
            f"the loss is no longer finite at step {state.step} of epoch {state.epoch + 1}: training diverged. "
            f"The last checkpoint stands; start anew with a lower learning rate (--lr, now {state.config.lr:g})."
        )
    return values


def _report(state: Training, means: dict[str, float], watched: dict[str, float]) -> None:
    """One line an epoch, for people."""
    if state.quiet:
        return
    terms = ", ".join(f"{name} {value:.3f}" for name, value in means.items())
    spread = (
        f", intra_share {watched['intra_share']:.3f}, rank {watched['effective_rank']:.1f}"
        if "intra_share" in watched
        else ""
    )
    sys.stderr.write(
        f"epoch {state.epoch}/{state.config.epochs}: {terms}{spread}; "
        f"{watched['images_per_second']:.0f} images/s, E-step {_estep_share(watched, watched['mstep_seconds']):.0%}\n"
    )


def _estep_share(watched: dict[str, float], mstep_seconds: float) -> float:
    """Of the epoch's time so far."""
    estep_seconds = watched.get("estep_seconds", 0.0)
    return estep_seconds / max(estep_seconds + mstep_seconds, 1e-9)


def _finish(state: Training) -> Path:
    """A last E-step for the final weights, then the model folder."""
    _expectation_step(state)
    assert state.expectation is not None, "the E-step sets it"
    sample = [index for index in range(len(state.source)) if index not in state.source.unreadable][:SAMPLE]
    pixels = torch.cat([squares for squares, _ in state.loader.squares([sample])])
    finished = Finished(
        encoder=state.pair.key,
        expectation=state.expectation,
        sample=pixels.to(state.device),
        source=state.source,
        preprocessing=state.loader.preprocessing,
        config=state.config,
        seconds=state.seconds,
        command=state.command,
    )
    path = state.run / record.MODEL
    with record.explained(path):
        publish(finished, path)
    shelf.keep(state.run, 1)  # to write the model folder anew
    return path
