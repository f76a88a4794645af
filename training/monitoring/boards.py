"""Where a run may be watched besides metrics.jsonl: TensorBoard where it is installed, wandb where
it is asked for.

Neither sends anything anywhere unless wandb was asked for.
"""

import secrets
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from pauc_hub.errors import TrainingFailed, UsageError
from pauc_hub.training.config import Config
from pauc_hub.training.monitoring.history import Line
from pauc_hub.training.run.run_folder import EVENTS, TENSORBOARD, WANDB


class BoardLost(Exception):
    """A board can be told no more."""


class Board(Protocol):
    """Something that shows numbers against steps."""

    def show(self, line: Line) -> None: ...
    def close(self) -> None: ...


class TensorBoard:
    """Events in run/tensorboard, always those of the lines in metrics.jsonl: a resumed run writes
    all of them anew.

    So nothing that was done twice is shown twice, and nothing is missing that a crash kept from the
    disk.
    """

    def __init__(self, run: Path, steps: int, lines: list[Line]) -> None:
        """`steps`: of an epoch."""
        from torch.utils.tensorboard import SummaryWriter

        for old in (run / TENSORBOARD).glob(EVENTS):
            old.unlink()
        self._steps = steps
        # a TensorBoard that is open forgets the old
        self._writer = SummaryWriter(str(run / TENSORBOARD), purge_step=0)
        for line in lines:
            self.show(line)
        self._writer.flush()

    def show(self, line: Line) -> None:
        place = line["epoch"] * self._steps + line["step"]
        for name, value in _numbers(line):
            self._writer.add_scalar(name, value, place)
        if not line["step"]:
            self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class Wandb:
    """A run of wandb's, of the same id in every sitting; wandb itself passes over steps that it has
    seen.
    """

    def __init__(self, run: Path, steps: int, project: str, config: Config) -> None:
        import wandb

        identity = run / WANDB
        if not identity.exists():
            identity.write_text(f"{secrets.token_hex(8)}\n", encoding="utf-8")
        try:
            self._run = wandb.init(
                project=project,
                name=run.name,
                id=identity.read_text(encoding="utf-8").strip(),
                resume="allow",
                dir=str(run),
                config=config.to_json(),
            )
        except wandb.Error as error:
            raise TrainingFailed(
                f"wandb did not begin: {error}. Leave out wandb to train without it."
            ) from error
        self._steps, self._error = steps, wandb.Error

    def show(self, line: Line) -> None:
        try:
            self._run.log(dict(_numbers(line)), step=line["epoch"] * self._steps + line["step"])
        except self._error as error:
            raise BoardLost(str(error)) from error

    def close(self) -> None:
        self._run.finish()


def refuse_absent_wandb(project: str | None) -> None:
    """Raise UsageError where wandb is asked for and not installed."""
    if project is not None and find_spec("wandb") is None:
        raise UsageError(
            f"wandb='{project}' needs a package that is not installed: pip install "
            "'pauc-hub[wandb]'."
        )


def open_boards(
    run: Path, steps: int, lines: list[Line], config: Config, project: str | None, *, quiet: bool
) -> list[Board]:
    """Those that are there.

    Args:
        lines: of metrics.jsonl so far.
        project: wandb's, where it is asked for.
    """
    boards: list[Board] = []
    if find_spec("tensorboard") is not None:
        boards.append(TensorBoard(run, steps, lines))
    elif not quiet:
        print(
            "note: nothing is written for TensorBoard; pip install 'pauc-hub[train]' for that",
            file=sys.stderr,
        )
    if project is not None:
        boards.append(Wandb(run, steps, project, config))
    return boards


def _numbers(line: Line) -> Iterator[tuple[str, float]]:
    """Under `step/` or `epoch/`, as the two kinds of lines have names in common."""
    kind = "step" if line["step"] else "epoch"
    for name, value in line.items():
        if name not in ("epoch", "step") and isinstance(value, int | float):
            yield f"{kind}/{name}", value
