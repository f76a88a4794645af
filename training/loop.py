"""The EM loop: reads like Algorithm 1 of the paper. Warm-up, then each epoch an E-step and an M-step over all batches."""

import math
import shlex
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from pauc_hub.device import autocast, choose_device, choose_precision
from pauc_hub.errors import Interrupted, TrainingFailed, UsageError
from pauc_hub.preprocess import Preprocessing
from pauc_hub.progress import progress_bar
from pauc_hub.training import checkpoint, mstep, record
from pauc_hub.training.augment import Augmentation
from pauc_hub.training.checkpoint import Place
from pauc_hub.training.config import Config
from pauc_hub.training.data import Loader, TwoViews, open_source
from pauc_hub.training.diagnostics import diagnose
from pauc_hub.training.draws import Purpose, seed_for, torch_draws
from pauc_hub.training.encoder import MomentumPair
from pauc_hub.training.estep import Expectation, all_features, expect
from pauc_hub.training.interruption import StopRequest
from pauc_hub.training.publish import Finished, publish

LOG_EVERY = 10  # steps between lines of metrics.jsonl
CHECKPOINT_SECONDS = 600  # at most this much work is lost to a power cut
SAMPLE = 256  # images on which the rounding of the published weights is checked


@dataclass
class Training:
    """A run in progress: what it learns with, and where it stands."""

    run: Path
    config: Config
    loader: Loader
    augment: Augmentation
    pair: MomentumPair
    optimiser: torch.optim.SGD
    device: torch.device
    dtype: torch.dtype
    quiet: bool
    stop: StopRequest
    expectation: Expectation | None = None
    epoch: int = 0
    step: int = 0
    earlier_seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)
    saved: float = field(default_factory=time.monotonic)

    @property
    def steps(self) -> int:
        """Whole batches an epoch; the few images left over come in another epoch's order."""
        return len(self.loader.source) // self.config.batch_size

    @property
    def seconds(self) -> float:
        return self.earlier_seconds + time.monotonic() - self.started

    def save(self) -> None:
        place = Place(self.epoch, self.step, self.seconds, self.loader.source.fingerprint())
        checkpoint.save(self.run, place, self.pair, self.optimiser, self.expectation)
        self.saved = time.monotonic()

    def yield_to_signals(self) -> None:
        """Raises Interrupted when a stop was asked for."""
        if self.stop.requested:
            again = shlex.join(["pauc", "train", str(self.loader.source.root), "-o", str(self.run), "--resume"])
            raise Interrupted(
                f"stopped in epoch {self.epoch + 1} of {self.config.epochs}; all that was done is saved. Go on with: {again}"
            )


def train(
    images: Path,
    run: Path,
    config: Config,
    *,
    device: str = "auto",
    workers: int = 2,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    command: str = "",
) -> Path:
    """Pretrain on a folder or tar files, and export a model folder.

    Args:
        images: a folder of any nesting, a tar file, or a folder of tar files; labels are neither needed nor looked for.
        run: folder for config, metrics, checkpoint and, at the end, `model/`.
        config: what to do; its `None`s are chosen from the number of images.
        resume: go on from the run's checkpoint, with the config it was started with.

    Returns:
        The model folder.

    Raises:
        UsageError, NoImages, OutputExists: before anything starts.
        Interrupted: after Ctrl-C or SIGTERM, with everything saved.
        TrainingFailed: the run cannot go on; the last checkpoint stands.
    """
    source = open_source(images)
    config = config.resolve(len(source))
    if resume:
        place = checkpoint.read_place(run)
        if place.images != source.fingerprint():
            raise UsageError(
                f"{images} no longer holds the images that {run} was started with. Start anew with --overwrite."
            )
    else:
        record.begin(run, config, overwrite)
    with StopRequest() as stop:
        state = _prepare(
            run, config, Loader(source, _preprocessing(config), workers), choose_device(device), quiet, stop
        )
        if resume:
            state.expectation = checkpoint.restore(run, state.pair, state.optimiser, state.device)
            state.epoch, state.step, state.earlier_seconds = place.epoch, place.step, place.seconds
        try:
            _run_epochs(state)
            return _finish(state, command)
        except Interrupted:
            state.save()
            raise


def _prepare(
    run: Path, config: Config, loader: Loader, device: torch.device, quiet: bool, stop: StopRequest
) -> Training:
    with torch.random.fork_rng(devices=[]):  # initial weights follow the seed; the caller's generator is left alone
        torch.manual_seed(seed_for(config.seed, Purpose.WEIGHTS))
        pair = MomentumPair(config.architecture, config.dim, config.queue or 0, config.norm_group)
    pair.to(device=device, memory_format=torch.channels_last)
    augment = Augmentation(
        flip=config.flip,
        jitter=config.jitter,
        jitter_probability=config.jitter_probability,
        grey=config.grey,
        blur=config.blur,
        mean=loader.preprocessing.mean,
        std=loader.preprocessing.std,
    )
    dtype = choose_precision(config.precision, device)
    return Training(run, config, loader, augment, pair, _optimiser(pair, config), device, dtype, quiet, stop)


def _preprocessing(config: Config) -> Preprocessing:
    # small images are objects cut tightly, photographs have margins: timm's own habit
    return Preprocessing(size=config.size, crop_pct=1.0 if config.size < 160 else 0.875)


def _optimiser(pair: MomentumPair, config: Config) -> torch.optim.SGD:
    parameters = list(pair.query.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=config.peak_lr, momentum=0.9)


def _run_epochs(state: Training) -> None:
    metrics = record.Metrics(state.run, state.epoch, state.step)
    while state.epoch < state.config.epochs:
        watched = _expectation_step(state) if state.epoch >= state.config.warmup_epochs and state.step == 0 else {}
        watched |= _maximisation_step(state, metrics)
        state.epoch, state.step = state.epoch + 1, 0
        means = metrics.write_epoch(state.epoch, watched)
        state.save()
        _report(state, means, watched)
        state.yield_to_signals()


def _expectation_step(state: Training) -> dict[str, float]:
    """Prototypes from all images; what is worth watching about them."""
    if state.config.objective == "infonce" and state.epoch < state.config.epochs:
        return {}
    began = time.monotonic()
    source = state.loader.source
    with progress_bar(len(source), f"epoch {state.epoch + 1}: E-step", quiet=state.quiet) as bar:

        def seen(count: int) -> None:
            bar.advance(count)
            state.yield_to_signals()

        batch = 2 * state.config.batch_size
        features, readable = all_features(state.pair.key, state.loader, state.device, state.dtype, batch, seen)
    before = state.expectation
    state.expectation = expect(features, readable, state.config, state.epoch)
    record.list_unreadable(state.run, source.unreadable, source.names)
    assert state.config.clusters is not None, "resolve() fills it in"
    watched = diagnose(features, readable, state.expectation, before, state.config.clusters[-1], state.config.seed)
    return watched | {"estep_seconds": time.monotonic() - began}


def _maximisation_step(state: Training, metrics: record.Metrics) -> dict[str, float]:
    """All batches of the epoch that are left; how fast they went."""
    config, epoch, began = state.config, state.epoch, time.monotonic()
    order = torch.randperm(len(state.loader.source), generator=torch_draws(config.seed, Purpose.ORDER, epoch)).tolist()
    batches = [order[i * config.batch_size : (i + 1) * config.batch_size] for i in range(state.step, state.steps)]
    views = state.loader.views(batches, config.crop_min, config.seed, epoch)
    done, waited = 0, 0.0
    with progress_bar(len(batches) * config.batch_size, f"epoch {epoch + 1}/{config.epochs}", quiet=state.quiet) as bar:
        while True:
            asked = time.monotonic()
            batch = next(views, None)
            waited += time.monotonic() - asked
            if batch is None:
                break
            terms = _learn(state, batch)
            state.step += 1
            done += len(batch.index)
            if state.step % LOG_EVERY == 0 or state.step == state.steps:
                values = _finite({name: term.item() for name, term in terms.items()}, state)
                metrics.write_step(epoch, state.step, values | {"lr": state.optimiser.param_groups[0]["lr"]})
                bar.note(**{name: round(value, 3) for name, value in values.items()})
            bar.advance(len(batch.index))
            if state.step < state.steps:
                state.yield_to_signals()
                if time.monotonic() - state.saved > CHECKPOINT_SECONDS:
                    state.save()
    seconds = time.monotonic() - began
    return {"images_per_second": done / seconds, "data_wait": waited / seconds, "mstep_seconds": seconds}


def _learn(state: Training, batch: TwoViews) -> dict[str, Tensor]:
    """One step: both views through the networks, the loss back through the queries, the momentum encoder after."""
    config, pair, place = state.config, state.pair, (state.epoch, state.step)
    _set_lr(state)

    def draws(purpose: Purpose, view: int) -> torch.Generator:
        return torch_draws(config.seed, purpose, *place, view)

    index = batch.index.to(state.device)
    first = state.augment(batch.first.to(state.device), draws(Purpose.AUGMENT, 0))
    second = state.augment(batch.second.to(state.device), draws(Purpose.AUGMENT, 1))
    sides = [(first, second), (second, first)] if config.symmetric else [(first, second)]
    found, keys = [], []
    for view, (shown, other) in enumerate(sides):
        with autocast(state.device, state.dtype):
            q, k = pair.queries(shown), pair.keys(other, draws(Purpose.SHUFFLE, view))
        views = mstep.Views(q, k, pair.queue.rows.clone(), index)
        found.append(mstep.loss_terms(views, state.expectation, config, draws(Purpose.NEGATIVES, view)))
        keys.append(k)
    terms = {name: torch.stack([side[name] for side in found]).mean() for name in found[0]}
    loss = mstep.total(terms, mstep.term_weights(config, state.epoch + state.step / state.steps))
    state.optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    state.optimiser.step()
    pair.follow(config.momentum)
    pair.queue.push(torch.cat(keys))
    return {"loss": loss.detach()} | {name: term.detach() for name, term in terms.items()}


def _set_lr(state: Training) -> None:
    """Linear rise, then a cosine to 0, by step."""
    everything = state.config.epochs * state.steps
    done = state.epoch * state.steps + state.step
    rise = state.config.lr_warmup * everything
    share = (
        (done + 1) / rise if done < rise else (1 + math.cos(math.pi * (done - rise) / max(1.0, everything - rise))) / 2
    )
    for group in state.optimiser.param_groups:
        group["lr"] = state.config.peak_lr * min(1.0, share)


def _finite(values: dict[str, float], state: Training) -> dict[str, float]:
    if not all(math.isfinite(value) for value in values.values()):
        raise TrainingFailed(
            f"the loss is no longer finite at step {state.step} of epoch {state.epoch + 1}: training diverged. "
            f"The last checkpoint stands; try a lower learning rate (--lr, now {state.config.lr:g})."
        )
    return values


def _report(state: Training, means: dict[str, float], watched: dict[str, float]) -> None:
    """One line an epoch, for people."""
    if state.quiet:
        return
    estep = watched.get("estep_seconds", 0.0)
    seconds = estep + watched["mstep_seconds"]
    terms = ", ".join(f"{name} {value:.3f}" for name, value in means.items())
    spread = f", intra_share {watched['intra_share']:.3f}, rank {watched['effective_rank']:.1f}" if estep else ""
    sys.stderr.write(
        f"epoch {state.epoch}/{state.config.epochs}: {terms}{spread}; "
        f"{watched['images_per_second']:.0f} images/s, E-step {estep / seconds:.0%} of {seconds:.0f} s\n"
    )


def _finish(state: Training, command: str) -> Path:
    """A last E-step for the final weights, then the model folder."""
    _expectation_step(state)
    assert state.expectation is not None, "the E-step sets it"
    source = state.loader.source
    sample = [i for i in range(len(source)) if i not in source.unreadable][:SAMPLE]
    pixels = torch.cat([squares for squares, _ in state.loader.squares([sample])])
    finished = Finished(
        encoder=state.pair.key,
        expectation=state.expectation,
        sample=pixels.to(state.device),
        source=source,
        preprocessing=state.loader.preprocessing,
        config=state.config,
        seconds=state.seconds,
        command=command,
    )
    return publish(finished, state.run / record.MODEL)
