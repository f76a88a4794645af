"""What a run tells of itself: metrics.jsonl, the boards that are there, a word when something goes
wrong, curves.
"""

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pauc_hub.errors import TrainingFailed
from pauc_hub.images.reading import Reading
from pauc_hub.training.config import Config
from pauc_hub.training.monitoring.boards import BoardLost, open_boards, refuse_absent_wandb
from pauc_hub.training.monitoring.checks import findings
from pauc_hub.training.monitoring.finding import RECENT, Finding
from pauc_hub.training.monitoring.history import History, Line, read_lines
from pauc_hub.training.monitoring.labelled import LabelledImages, knn_accuracy, open_labelled_images
from pauc_hub.training.run import run_folder
from pauc_hub.training.state import Training


class Log:
    """What the loop writes to; of several processes that share a run, the first one's alone writes
    and looks.
    """

    def __init__(self, state: Training, wandb: str | None, labelled: LabelledImages | None) -> None:
        """Go on where `state` stands; later lines, of work that was not saved, are dropped.

        Args:
            wandb: the project, where wandb is to be told too.
            labelled: images to measure kNN on.
        """
        self._state, first = state, state.world.first
        self._metrics = run_folder.Metrics(state.run, state.epoch, state.step, written=first)
        lines = read_lines(state.run)
        self._epochs = [line for line in lines if not line["step"]]
        self._steps = [line for line in lines if line["step"]][-RECENT:]
        boards = partial(
            open_boards, state.run, state.steps, lines, state.config, wandb, quiet=state.quiet
        )
        self._boards = boards() if first else []
        self._labelled = labelled if first else None
        self._known = set(self._findings())

    @property
    def labelled(self) -> LabelledImages | None:
        """The images that kNN is measured on, on the first process."""
        return self._labelled

    def write_step(self, epoch: int, step: int, values: dict[str, float]) -> None:
        """`step` steps of epoch `epoch` are done."""
        self._metrics.write_step(epoch, step, values)
        line = {"epoch": epoch, "step": step} | values
        self._steps = [*self._steps, line][-RECENT:]
        self._show(line)

    def write_epoch(self, epoch: int, values: dict[str, float]) -> dict[str, float]:
        """The epoch before `epoch` is over; returns its line, with the means of its steps'
        lines.
        """
        line = self._metrics.write_epoch(epoch, values | peak_memory(self._state.device))
        self._show(line)
        self._epochs.append(line)
        self._warn()
        return line

    def knn(self) -> dict[str, float]:
        """The score on the labelled images after the running epoch, where it is due."""
        state, labelled = self._state, self._labelled
        if labelled is None or not labelled.is_due(
            state.epoch + 1, state.config.epochs, len(state.source)
        ):
            return {}
        score = knn_accuracy(labelled, state)
        return {} if score is None else {"knn": score}

    def scores(self) -> list[dict[str, Any]]:
        """Of the weights as they are after the last epoch, for the model's card; measured now where
        it was not yet.
        """
        state, labelled = self._state, self._labelled
        if labelled is None:
            return []
        last = self._epochs[-1] if self._epochs else {}
        known = last.get("knn") if (last.get("epoch"), 0) == (state.epoch, state.step) else None
        accuracy = knn_accuracy(labelled, state) if known is None else known
        return [] if accuracy is None else [labelled.score(accuracy, state.config, state.command)]

    def write_failure(self, message: str) -> None:
        """The run ends with an error."""
        self._metrics.write_failure(self._state.epoch, self._state.step, message)

    def close(self) -> None:
        for board in self._boards:
            with suppress(OSError, BoardLost):
                board.close()

    def _show(self, line: Line) -> None:
        for board in list(self._boards):
            try:
                board.show(line)
            except (OSError, BoardLost) as error:  # no reason to end a run
                self._boards.remove(board)
                self._say(f"{type(board).__name__} is told no more: {error}")

    def _warn(self) -> None:
        """Of what is wrong and was not before."""
        found = self._findings()
        for name, finding in found.items():
            if name not in self._known:
                self._say(
                    f"{name}: {finding.said} ({finding.evidence}). `pauc doctor "
                    f"{self._state.run}` tells more."
                )
        self._known |= found.keys()

    def _findings(self) -> dict[str, Finding]:
        history = History(self._state.config, self._state.steps, self._steps, self._epochs)
        return {finding.name: finding for finding in findings(history)}

    def _say(self, text: str) -> None:
        if not self._state.quiet:
            print(f"warning: {text}", file=sys.stderr)


@contextmanager
def watching(state: Training, wandb: str | None, labelled: LabelledImages | None) -> Iterator[Log]:
    """A log that is closed at the end, and notes the error that the run ends with."""
    log = Log(state, wandb, labelled)
    try:
        yield log
    except TrainingFailed as failure:
        log.write_failure(str(failure))
        raise
    finally:
        log.close()


def open_watched(config: Config, wandb: str | None, reading: Reading) -> LabelledImages | None:
    """The labelled images, where there are any.

    Raises:
        UsageError: these, or wandb, are asked for and cannot be had.
    """
    refuse_absent_wandb(wandb)
    return open_labelled_images(Path(config.labelled), reading) if config.labelled else None


def peak_memory(device: torch.device) -> dict[str, float]:
    """In GiB, of this process and, where it trains on one, of the GPU."""
    found = {"memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
    if device.type == "cuda":
        found["gpu_memory_gib"] = torch.cuda.max_memory_reserved(device) / 2**30
    return found
