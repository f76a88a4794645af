"""The EM loop: a warm-up, then each epoch an E-step and an M-step over all batches; reads like
Algorithm 1 of PCL.
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Literal, overload

from pauc_hub.errors import ClusteringFailed, Interrupted, TrainingFailed, UsageError
from pauc_hub.images.reading import Ranges, Reading, as_reading
from pauc_hub.processes import Ranks
from pauc_hub.progress import progress_bar
from pauc_hub.sources.by_index import ImageSource
from pauc_hub.sources.datasets import Dataset, open_images
from pauc_hub.training import rehearsal
from pauc_hub.training.config import Config, refuse
from pauc_hub.training.copies import refuse_copies
from pauc_hub.training.data.kept_out import keep_out
from pauc_hub.training.data.views import epoch_batches
from pauc_hub.training.distributed import join, sharing_problems
from pauc_hub.training.estep import reason_and_remedy
from pauc_hub.training.expectation_step import expectation_step
from pauc_hub.training.finish import finish
from pauc_hub.training.interruption import StopRequest
from pauc_hub.training.machine import device_to_train_on, limits_explained
from pauc_hub.training.monitoring import before_after
from pauc_hub.training.monitoring.epoch_line import report_epoch
from pauc_hub.training.monitoring.labelled import LabelledImages
from pauc_hub.training.monitoring.log import Log, open_watched, watching
from pauc_hub.training.networks.pretrained import load_weights
from pauc_hub.training.optimiser import let_learn
from pauc_hub.training.recipes import OWN_IMAGES, read_settings
from pauc_hub.training.rehearsal import DryRun
from pauc_hub.training.run import checkpoint, run_folder
from pauc_hub.training.run.checkpoint import Place
from pauc_hub.training.state import Training, new_training, take_step

# of metrics.jsonl
STEPS_BETWEEN_LINES = 10


@overload
def train(
    images: str | Path | ImageSource | Sequence[str | Path] | Dataset,
    run: str | Path | None = None,
    config: Config | str | Path | None = None,
    *,
    dry_run: Literal[True],
    **options: Any,
) -> DryRun: ...


@overload
def train(
    images: str | Path | ImageSource | Sequence[str | Path] | Dataset,
    run: str | Path,
    config: Config | str | Path | None = None,
    *,
    dry_run: bool = False,
    recipe: str = OWN_IMAGES,
    value_range: Ranges = None,
    bands: Sequence[int] = (),
    device: str = "auto",
    workers: int | None = None,
    resume: bool = False,
    epochs: int | None = None,
    export: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    command: str = "",
    wandb: str | None = None,
    announce: Callable[[Config, LabelledImages | None], None] = lambda *_: None,
    **settings: Any,
) -> Path: ...


def train(
    images: str | Path | ImageSource | Sequence[str | Path] | Dataset,
    run: str | Path | None = None,
    config: Config | str | Path | None = None,
    *,
    dry_run: bool = False,
    recipe: str = OWN_IMAGES,
    value_range: Ranges = None,
    bands: Sequence[int] = (),
    device: str = "auto",
    workers: int | None = None,
    resume: bool = False,
    epochs: int | None = None,
    export: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    command: str = "",
    wandb: str | None = None,
    announce: Callable[[Config, LabelledImages | None], None] = lambda *_: None,
    **settings: Any,
) -> Path | DryRun:
    """Pretrain on images, and export a model folder; what `pauc train` does, with the same
    defaults.

        >>> model = train("labelled/", "run", epochs=1, size=32, quiet=True)
        >>> load(model).embed("photos/camera.jpg").shape
        (1, 512)
        >>> plan = train("labelled/", epochs=100, size=32, dry_run=True, quiet=True)
        >>> plan.config.epochs, plan.estimate.seconds > 0
        (100, True)

    Args:
        images: whatever `pauc embed` takes (docs/sources.md); a list of paths; or a map-style
            dataset of PIL images, of tuples that begin with one, or of mappings that hold one:
            torchvision's, Hugging Face's. Labels are neither needed nor looked for.
        run: folder for config, metrics, checkpoint and, at the end, `model/`; a dry run needs none.
        config: a TrainConfig, whose `None`s are chosen from the number of images; or a TOML file of
            settings. A resumed run keeps its own.
        dry_run: train for about a minute, leave nothing, and tell what a run would be and take.
        recipe: named settings (docs/settings.md), beside which others hold; of a TrainConfig
            nothing is left open.
        value_range, bands: of images that hold more than bytes, or other bands than RGB, as for
            embed().
        workers: threads that decode; one for each core unless given, which the processes of a
            machine share.
        resume: go on from the run's checkpoint.
        epochs: passes over all images. Those that a resumed run, also a finished one, shall have,
            under a schedule that is laid anew (schedule.py); its own unless given.
        export: make a model folder of the run's checkpoint as it is, and train no further.
        command: what was typed, for the receipts.
        wandb: project there, to be told what metrics.jsonl is.
        announce: called on the first process once all has been checked: with the settings, and the
            labelled images.
        settings: any field of TrainConfig by its name, before what `config` has. What nobody gives
            is the recipe's, or chosen for the images, the network and the machine.

    Of several processes, as torchrun numbers them in the environment, each calls this; the first
    writes and prints.

    Returns:
        The model folder; of a dry run the settings, the reasons for those that were chosen, and the
        estimate.

    Raises:
        UsageError, NoImages, OutputExists: before anything starts.
        Interrupted: after Ctrl-C or SIGTERM, with everything saved.
        TrainingFailed: the run cannot go on; the last checkpoint stands.
    """
    ranks = Ranks.from_environment()
    goes_on = resume or export
    given = settings if epochs is None else settings | {"epochs": epochs}
    _refuse_contradictions(
        run,
        dry_run=dry_run,
        goes_on=goes_on,
        overwrite=overwrite,
        given=any((settings, value_range, bands, config)),
    )
    source = open_images(images, as_reading(value_range, bands), quiet=quiet or ranks.rank > 0)
    where = device_to_train_on(ranks.device(device))
    if dry_run:
        plan, choices = read_settings(config, given, source, where, recipe)
        plan = plan.resolve(len(source))
        announce(plan, open_watched(plan, wandb, source.reading))
        return DryRun(
            plan, tuple(choices), rehearsal.rehearse(source, plan, where, workers, quiet=quiet)
        )
    run = Path(run or "")
    if export:
        run_folder.refuse_unsaved(run)
    with StopRequest() as stop, join(ranks, where) as world, ExitStack() as held:
        watched: LabelledImages | None = None  # by the first process alone

        def opened() -> tuple[Config, Place | None, Reading]:
            nonlocal watched
            asked = (
                run_folder.saved_config(run)
                if goes_on
                else read_settings(config, given, source, where, recipe)[0]
            )
            settled = asked.resolve(len(source))
            learnt, _ = keep_out(source, settled)
            refuse(sharing_problems(settled, ranks.count))
            refuse_copies(learnt, settled, begins=not goes_on)
            watched = open_watched(settled, wandb, source.reading)
            shown = learnt.fingerprint()
            again = ranks.restarts > 0 or checkpoint.written_under(run, ranks.launch)
            folder = run_folder.open_run(
                run,
                settled,
                shown,
                resume=goes_on,
                overwrite=overwrite,
                restarted=again,
                quiet=quiet,
            )
            place = held.enter_context(folder)
            if goes_on and epochs is not None:
                settled = run_folder.lay_schedule_anew(run, settled, epochs, place)
            reading = run_folder.keep_reading(run, source.reading, goes_on=place is not None)
            return settled, place, reading

        settled, place, source.reading = world.decided_by_first(opened)
        if world.first:
            for split in (watched.bank, watched.queries) if watched else ():
                split.source.reading = source.reading
            announce(settled, watched)
        with limits_explained(settled):
            learnt, kept = keep_out(source, settled)
            state = new_training(
                run,
                settled,
                learnt,
                where,
                workers or ranks.workers(),
                stop,
                quiet=quiet or not world.first,
                command=command,
                world=world,
                kept=kept,
            )
            _begin(state, place, watched)
            with watching(state, wandb, watched) as log:
                return _export(state, log) if export else _run(state, log)


def _refuse_contradictions(
    run: Any, *, dry_run: bool, goes_on: bool, overwrite: bool, given: bool
) -> None:
    if goes_on and given:
        raise UsageError(
            "a run goes on with its own settings: beside resume=True or export=True give "
            "epochs alone."
        )
    if dry_run and (goes_on or overwrite):
        raise UsageError("dry_run=True is of a new run: leave out resume, export and overwrite.")
    if run is None and not dry_run:
        raise UsageError(
            "run is missing: the folder that the run goes into. Only dry_run=True needs none."
        )


def _begin(state: Training, place: Place | None, watched: LabelledImages | None) -> None:
    """Stand where the run's checkpoint does, or at the start with the weights that were asked
    for.
    """
    if place is not None:
        state.resume_from(place)
    elif state.config.weights_from:
        load_weights(state.pair.query.backbone, state.config.weights_from, state.config.size)
        load_weights(state.pair.key.backbone, state.config.weights_from, state.config.size)
    if state.world.first and before_after.is_due(state):
        before_after.measure_before(state, watched)
    if place is None:
        # a disk without room for it is told of now, not after the first epoch
        state.save()


def _run(state: Training, log: Log) -> Path:
    try:
        _alternate(state, log)
        return finish(state, log)
    except Interrupted:
        state.save()
        # who leaves early looks like a failure to torchrun, which then ends the first
        state.world.wait()
        raise
    except ClusteringFailed as failure:
        raise TrainingFailed(" ".join(reason_and_remedy(failure, state.loader))) from failure


def _export(state: Training, log: Log) -> Path:
    """The model folder of what has been learnt so far; the checkpoint stays as it is."""
    try:
        return finish(state, log)
    except ClusteringFailed as failure:
        raise TrainingFailed(" ".join(reason_and_remedy(failure, state.loader))) from failure


def _alternate(state: Training, log: Log) -> None:
    while state.epoch < state.config.epochs:
        if (
            state.config.objective != "infonce"
            and state.epoch >= state.config.warmup_epochs
            and state.step == 0
        ):
            state.watched, _ = expectation_step(state, state.pair.key, state.side)
        watched = state.watched | _maximisation_step(state, log)
        watched |= {"estep_share": _estep_share(watched, watched["mstep_seconds"])} | log.knn()
        state.epoch += 1
        state.step = 0
        state.watched = {}
        line = log.write_epoch(state.epoch, watched)
        state.save()
        report_epoch(state, line)
        state.heed_signals()


def _maximisation_step(state: Training, log: Log) -> dict[str, float]:
    """Learn from all batches of the epoch that are left; returns how fast it went."""
    config = state.config
    began = time.monotonic()
    waited = 0.0
    state.forget_keys_of_another_side()
    if config.weights_from:
        let_learn(state.pair.query, config, state.epoch)
    left = state.steps - state.step
    images = left * config.batch_size
    own = state.world.stretch(config.batch_size)
    all_batches = epoch_batches(config, len(state.source), state.epoch, state.step)
    batches = (batch[own] for batch in all_batches)
    with (
        closing(state.loader.views(batches)) as views,
        progress_bar(images, f"epoch {state.epoch + 1}/{config.epochs}", quiet=state.quiet) as bar,
    ):
        for _ in range(left):
            asked = time.monotonic()
            batch = next(views)
            waited += time.monotonic() - asked
            terms = take_step(state, batch)
            state.step += 1
            if state.step % STEPS_BETWEEN_LINES == 0 or state.step == state.steps:
                values = {name: term.item() for name, term in terms.items()}
                lr = state.optimiser.param_groups[0]["lr"]
                log.write_step(state.epoch, state.step, values | {"lr": lr})
                _refuse_infinite(values, state)
                share = _estep_share(state.watched, time.monotonic() - began)
                rounded = {name: round(value, 3) for name, value in values.items()}
                bar.note(**rounded, **{"E-step": f"{share:.0%}"})
            bar.advance(config.batch_size)
            # the last step's save follows, with the epoch's own line
            if state.step < state.steps:
                state.heed_signals()
                state.save_now_and_then()
    seconds = time.monotonic() - began
    return {
        "images_per_second": images / seconds,
        "data_wait": waited / seconds,
        "mstep_seconds": seconds,
    }


def _refuse_infinite(values: dict[str, float], state: Training) -> None:
    if not all(math.isfinite(value) for value in values.values()):
        raise TrainingFailed(
            f"the loss is no longer finite at step {state.step} of epoch {state.epoch + 1}: "
            "training diverged. The last checkpoint stands; start anew with a lower lr "
            f"(now {state.config.lr:g})."
        )


def _estep_share(watched: dict[str, float], mstep_seconds: float) -> float:
    """Of the epoch's time so far [share]."""
    estep_seconds = watched.get("estep_seconds", 0.0)
    return estep_seconds / max(estep_seconds + mstep_seconds, 1e-9)
