"""What a run's config.json and metrics.jsonl hold, also while it goes on and after it was
killed.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pauc_hub.errors import UsageError
from pauc_hub.models.folder import WEIGHTS
from pauc_hub.training.config import Config
from pauc_hub.training.run.run_folder import CONFIG, FAILURE_KEY, METRICS, MODEL
from pauc_hub.training.settings import read_saved

Line = Mapping[str, Any]  # of metrics.jsonl: numbers, but for `failed`


@dataclass(frozen=True)
class History:
    """A run so far.

    Attributes:
        steps_an_epoch: so many as were seen, where no epoch is over.
        steps: lines of single steps, the last few at least.
        epochs: lines of epochs.
        failure: the error that it ended with.
    """

    config: Config
    steps_an_epoch: int
    steps: Sequence[Line]
    epochs: Sequence[Line]
    failure: str = ""

    @property
    def epochs_done(self) -> int:
        return int(self.epochs[-1]["epoch"]) if self.epochs else 0

    @property
    def finished(self) -> bool:
        """Whether all epochs are over."""
        return self.epochs_done >= self.config.epochs

    @property
    def steps_done(self) -> int:
        whole = self.epochs_done * self.steps_an_epoch
        return max(
            [
                whole,
                *(
                    int(line["epoch"] * self.steps_an_epoch + line["step"])
                    for line in self.steps[-1:]
                ),
            ]
        )

    def series(self, name: str) -> tuple[list[int], list[float]]:
        """Epochs (from 1) and values, of the epochs that have it; NaN where it was not finite."""
        told = [line for line in self.epochs if name in line]
        return [line["epoch"] for line in told], [
            math.nan if line[name] is None else line[name] for line in told
        ]

    def recent(self, name: str, count: int) -> list[float]:
        """The last values, fewer where there are not so many."""
        return self.series(name)[1][-count:]


def read_history(run: Path) -> History:
    """A run from its folder.

    Raises:
        UsageError: there is no run, or its config cannot be read.
    """
    if not (run / CONFIG).is_file():
        raise UsageError(
            f"'{run}' holds no run: there is no {CONFIG}. Give the folder that `pauc train` got "
            "with -o."
        )
    if run.resolve().name == MODEL and (run / WEIGHTS).is_file():
        raise UsageError(f"'{run}' is the model of a run, not the run. Give '{run.parent}'.")
    config, lines = read_saved(run / CONFIG), read_lines(run)
    steps = [line for line in lines if line["step"] and FAILURE_KEY not in line]
    return History(
        config=config,
        # an epoch's last step has a line
        steps_an_epoch=max((line["step"] for line in steps), default=0),
        steps=steps,
        epochs=[line for line in lines if not line["step"] and FAILURE_KEY not in line],
        failure=next((line[FAILURE_KEY] for line in reversed(lines) if FAILURE_KEY in line), ""),
    )


def read_lines(run: Path) -> list[Line]:
    """Of metrics.jsonl, in order; what was cut short is left out."""
    path = run / METRICS
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    return [line for line in map(_parsed, text.splitlines()) if line is not None]


def _parsed(text: str) -> Line | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    whole = isinstance(line, dict) and all(
        isinstance(line.get(name), int) for name in ("epoch", "step")
    )
    return line if whole else None
