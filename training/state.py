"""A run in progress: what it learns with, where it stands, how it is saved."""

import shlex
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pauc_hub.device import choose_precision
from pauc_hub.errors import Interrupted, TrainingFailed
from pauc_hub.images.preprocessing import Preprocessing
from pauc_hub.sources.by_index import ImageSource
from pauc_hub.training.config import Config
from pauc_hub.training.data import Loader, Views
from pauc_hub.training.data.augment import Augmentation
from pauc_hub.training.data.resident import choose_loader
from pauc_hub.training.data.streamed import Streamed
from pauc_hub.training.distributed import ONE_PROCESS, World
from pauc_hub.training.estep import Expectation
from pauc_hub.training.interruption import StopRequest
from pauc_hub.training.mstep import Shown, learn
from pauc_hub.training.networks.encoder import MomentumPair
from pauc_hub.training.optimiser import let_learn, new_optimiser
from pauc_hub.training.rng import Purpose, seed_for
from pauc_hub.training.run import checkpoint, run_folder
from pauc_hub.training.run.checkpoint import Place
from pauc_hub.training.schedule import Moment, learning_rate

# pixels; timm crops the margins of larger pictures, smaller ones are cut tightly already
PHOTOGRAPH = 160
SECONDS_BETWEEN_CHECKPOINTS = 600  # at most this much work is lost to a power cut


@dataclass
class Training:
    """Mutable, and the only such thing in training.

    Attributes:
        run: folder of the run.
        config: resolved.
        expectation: the last E-step's result; None during the warm-up.
        epoch, step: `step` steps of epoch `epoch` (from 0) are done.
        command: what was typed to start the run, for the receipts.
        world: the processes that share the run.
        kept: the images that are kept out of training; None where there are none.
        watched: what this epoch's E-step measured, for the epoch's line of metrics.jsonl.
        queue_side: of the views that the queue's keys were made of, pixels; 0 before there are any.
        earlier_seconds: spent in sittings before this one.
        schedules: laid anew on the way, for the receipts: each with the `epoch` and `step` from
            which on it holds, its `epochs`, those `before`, and the `command`.
    """

    run: Path
    config: Config
    loader: Loader
    augment: Augmentation
    pair: MomentumPair
    optimiser: torch.optim.Optimizer
    device: torch.device
    dtype: torch.dtype
    stop: StopRequest
    quiet: bool
    command: str
    world: World = ONE_PROCESS
    kept: Loader | None = None
    expectation: Expectation | None = None
    watched: dict[str, float] = field(default_factory=dict)
    epoch: int = 0
    step: int = 0
    queue_side: int = 0
    earlier_seconds: float = 0.0
    schedules: list[dict[str, Any]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    saved: float = field(default_factory=time.monotonic)

    @property
    def source(self) -> ImageSource:
        return self.loader.source

    @property
    def steps(self) -> int:
        """Whole batches an epoch; the few images left over come in another epoch's order."""
        return len(self.source) // self.config.batch_size

    @property
    def side(self) -> int:
        """Of the views in the present epoch, pixels."""
        return self.config.side_at(self.epoch)

    def forget_keys_of_another_side(self) -> None:
        """On a change of side the queue refills before it counts (method.md §5)."""
        if self.queue_side not in (0, self.side):
            self.pair.queue.forget()
        self.queue_side = self.side

    @property
    def seconds(self) -> float:
        """Spent on the run, over all sittings."""
        return self.earlier_seconds + time.monotonic() - self.began

    def save(self) -> None:
        """By the first process alone: what a checkpoint holds is the same on all.

        Raises:
            TrainingFailed: there is no room for it, or a number is not finite, which would be all
                that is left to go on from.
        """
        if not self.is_finite():
            raise TrainingFailed(
                f"weights are no longer finite at step {self.step} of epoch {self.epoch + 1}: "
                "training diverged. "
                f"The last checkpoint stands; start anew with a lower lr (now {self.config.lr:g})."
            )
        if not self.world.first:
            return
        place = Place(
            self.epoch,
            self.step,
            self.seconds,
            self.source.fingerprint(),
            command=self.command,
            launch=self.world.launch,
            watched=self.watched,
            epochs=self.config.epochs,
            schedules=self.schedules,
            queue_side=self.queue_side,
        )
        run_folder.sync_metrics(self.run)
        checkpoint.save(self.run, place, self.pair, self.optimiser, self.expectation)
        self.saved = time.monotonic()

    def is_finite(self) -> bool:
        """Weights, statistics, queue, and what the optimiser remembers; waits for the device
        once.
        """
        kept = (value for values in self.optimiser.state.values() for value in values.values())
        tensors = [
            each
            for each in (*self.pair.state_dict().values(), *kept)
            if isinstance(each, torch.Tensor)
        ]
        checks = [each.isfinite().all() for each in tensors if each.is_floating_point()]
        return bool(torch.stack([each.to(self.device) for each in checks]).all())

    def save_now_and_then(self) -> None:
        if time.monotonic() - self.saved > SECONDS_BETWEEN_CHECKPOINTS:
            self.save()

    def resume_from(self, place: Place) -> None:
        """Stand where `place` says, with everything as the run's checkpoint holds it.

        Where that was trained under a schedule of another length, the new one is noted, and saved
        at once.
        """
        self.expectation = checkpoint.restore(
            self.run, place, self.pair, self.optimiser, self.device
        )
        self.epoch, self.step, self.earlier_seconds = place.epoch, place.step, place.seconds
        typed, self.command = self.command, place.command
        self.watched = place.watched
        self.schedules = place.schedules
        self.queue_side = place.queue_side
        if place.epochs in (0, self.config.epochs):
            return
        laid = {
            "epoch": place.epoch,
            "step": place.step,
            "before": place.epochs,
            "epochs": self.config.epochs,
        }
        self.schedules = [*self.schedules, laid | {"command": typed}]
        self.save()
        if not self.quiet:
            done, steps = place.epoch * self.steps + place.step, self.config.epochs * self.steps
            rate = learning_rate(self.config, done, steps)
            sys.stderr.write(
                f"going on in epoch {place.epoch + 1} under a schedule laid anew, of "
                f"{self.config.epochs} epochs "
                f"({place.epochs} before): the learning rate follows a cosine over them, and is "
                f"now {rate:.3g}\n"
            )

    def heed_signals(self) -> None:
        """Raise Interrupted if a signal to any of the processes asked for a stop; all of them come
        here together.
        """
        if self.world.any(self.stop.requested):
            again = shlex.join(["pauc", "train", self.source.root, "-o", str(self.run), "--resume"])
            if not self.source.has_place:
                again = f"pauc_hub.train(…, {str(self.run)!r}, resume=True)"
            elif self.world.size > 1:
                again = f"torchrun … -m {again.replace('pauc', 'pauc_hub.cli', 1)}"
            at = f"epoch {min(self.epoch + 1, self.config.epochs)} of {self.config.epochs}"
            raise Interrupted(f"stopped in {at}; all that was done is saved. Go on with: {again}")


def take_step(state: Training, batch: Views) -> dict[str, Tensor]:
    """Learn from a batch where the run stands, and return what learn() does; the next step is the
    caller's to count.
    """
    crops = (batch.first, batch.second, *batch.small)
    first, second, *small = map(state.augment, crops, batch.draws)
    shown = Shown(batch.index, first, second, tuple(small))
    moment = Moment(state.epoch, state.step, state.steps)
    return learn(state.pair, state.optimiser, shown, state.expectation, state.config, moment)


def new_training(
    run: Path,
    config: Config,
    source: ImageSource,
    device: torch.device,
    workers: int,
    stop: StopRequest,
    quiet: bool,
    command: str = "",
    world: World = ONE_PROCESS,
    most: int | None = None,
    kept: ImageSource | None = None,
) -> Training:
    """At the very start: initial weights that follow from the seed alone.

    Args:
        kept: images that are kept out of training.
        most: images that are read at most, of those that would lie in memory: for a rehearsal.
    """
    with torch.random.fork_rng(devices=[]):  # the caller's own generator is left as it was
        torch.manual_seed(seed_for(config.seed, Purpose.WEIGHTS))
        pair = MomentumPair(
            config.architecture,
            config.dim,
            config.queue or 0,
            config.norm_group,
            config.accumulate,
            size=config.size,
            steady=bool(config.weights_from),
            compiled=config.compile,
            world=world,
        )
    pair.to(device).to(memory_format=torch.channels_last)
    if config.weights_from:
        let_learn(pair.query, config, config.epochs)
    preprocessing = Preprocessing(
        size=config.size,
        crop_pct=1.0 if config.size < PHOTOGRAPH else 0.875,
        mean=config.mean,
        std=config.std,
    )
    return Training(
        run=run,
        config=config,
        loader=choose_loader(
            source, preprocessing, workers, device, stop, world.size, quiet=quiet, most=most
        ),
        augment=Augmentation(
            preprocessing.mean, preprocessing.std, config.blur_range[1] / config.size
        ),
        pair=pair,
        optimiser=new_optimiser(pair.query, config),
        device=device,
        dtype=choose_precision(config.precision, device),
        stop=stop,
        quiet=quiet,
        command=command,
        world=world,
        kept=Streamed(kept, preprocessing, workers, device) if kept else None,
    )
