"""The folder of a run: config.json, metrics.jsonl, what shows it, checkpoints, and the model folder
at the end.
"""

import contextlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pauc_hub.errors import OutputExists, TrainingFailed, UsageError
from pauc_hub.files.atomic import leftovers, remove, replacing, sync
from pauc_hub.files.failures import writing
from pauc_hub.files.locks import locked
from pauc_hub.files.ownership import require_own
from pauc_hub.images.reading import PLAIN, Reading
from pauc_hub.training.config import Config
from pauc_hub.training.run import checkpoint, checkpoint_files
from pauc_hub.training.run.checkpoint import Place
from pauc_hub.training.schedule import laid_anew
from pauc_hub.training.settings import read_saved

CONFIG, METRICS, UNREADABLE, MODEL = "config.json", "metrics.jsonl", "unreadable.txt", "model"
RUN_CURVES, WANDB = "curves.png", "wandb_id.txt"
TENSORBOARD, EVENTS = "tensorboard", "events.out.tfevents.*"  # a folder, and what in it is ours
READING = "reading.json"  # of the images, where they needed one
BEFORE = "before.safetensors"  # what the weights that it started from were like
OWN = (CONFIG, METRICS, UNREADABLE, RUN_CURVES, WANDB, MODEL, READING, BEFORE)
FIXED = (*OWN, TENSORBOARD, checkpoint_files.FOLDER)
FAILURE_KEY = "failed"  # in the last line of metrics.jsonl, where a run ended with an error


@contextlib.contextmanager
def open_run(
    run: Path,
    config: Config,
    images: str,
    *,
    resume: bool,
    overwrite: bool,
    restarted: bool,
    quiet: bool,
) -> Iterator[Place | None]:
    """The folder of a run, for this process alone, and the place where it goes on; None where it
    begins.

    What killed processes left half done is removed.

    Args:
        images: fingerprint of the images at hand.
        restarted: the command was given before, and its processes ended; what it has begun goes on
            from its checkpoint.

    Raises:
        UsageError: a link stands at the folder's place or in it, or it is another user's.
        OutputExists, UsageError: as `begin` and `checkpoint.read_place` do, or a finished run has
            lost its checkpoints.
        PaucError: another process is at it.
    """
    for place in (run, *(run / name for name in FIXED)):
        require_own(place)
    goes_on = resume or (restarted and (run / CONFIG).exists() and saved_config(run) == config)
    if not goes_on:
        _make(run)
    with locked(
        run, f"another process is training into '{run}'. Wait for it, or give another folder."
    ):
        if not goes_on:
            begin(run, config, overwrite)
        elif (run / MODEL).exists() and not checkpoint_files.standing(run):
            raise UsageError(
                f"nothing to resume: '{run}' is finished, and its checkpoints are gone. Start "
                "anew with overwrite=True."
            )
        # a folder that cannot be written to is told of by whoever writes
        with contextlib.suppress(OSError):
            for path in [other for name in OWN for other in leftovers(run / name)]:
                remove(path)
        yield checkpoint.read_place(run, images, quiet=quiet) if goes_on else None


def begin(run: Path, config: Config, overwrite: bool) -> None:
    """Make the folder and write the config into it, which is what makes it a run: there whole or
    not at all.

    Raises:
        OutputExists: a run stands there; nothing was touched.
        UsageError: the folder cannot be made.
    """
    if not overwrite:
        refuse_standing(run)
    _make(run)
    with _refused(run):
        for path in _standing(run):  # the config first: without it nothing here is taken for a run
            remove(path)
        checkpoint_files.clear(run)
        sync(run)  # so that no power cut leaves the new config with old checkpoints
        _write_config(run, config)


def lay_schedule_anew(run: Path, config: Config, epochs: int, place: Place | None) -> Config:
    """Write another number of epochs into the folder of a run; returns the config that holds from
    `place` on.

    Raises:
        UsageError: more epochs are done, or the folder cannot be written to.
    """
    done = place.epoch + (place.step > 0) if place else 0
    if epochs < max(1, done):
        raise UsageError(
            f"epochs={epochs} is too few: '{run}' is in epoch {max(1, done)}. Give that or more."
        )
    if epochs == config.epochs:
        return config
    laid = laid_anew(config, epochs)
    with _refused(run):
        _write_config(run, laid)
    return laid


def _write_config(run: Path, config: Config) -> None:
    with replacing(run / CONFIG) as file:
        file.write((json.dumps(config.to_json(), indent=2) + "\n").encode())


def keep_reading(run: Path, measured: Reading, *, goes_on: bool) -> Reading:
    """How the images of a run are read: as when it began.

    Args:
        measured: on the images at hand; kept where the run begins.
    """
    path = run / READING
    if goes_on:
        return Reading.from_config(json.loads(path.read_bytes())) if path.exists() else PLAIN
    if config := measured.to_config():
        with _refused(run), replacing(path) as file:
            file.write((json.dumps(config, indent=2) + "\n").encode())
    return measured


def _make(run: Path) -> None:
    with _refused(run):
        run.mkdir(parents=True, exist_ok=True)


def _refused(run: Path) -> contextlib.AbstractContextManager[None]:
    return writing(run, ". Give another folder.", UsageError)


def saved_config(run: Path) -> Config:
    """The config that a run was started with.

    Raises:
        UsageError: there is no run.
    """
    path = run / CONFIG
    if path.exists():
        return read_saved(path)
    if _standing(run):
        raise UsageError(
            f"nothing to resume: '{run}' has lost its {CONFIG}. Start anew with overwrite=True."
        )
    raise UsageError(f"nothing to resume: '{run}' holds no run. Start without resume=True.")


def refuse_unsaved(run: Path) -> None:
    """Raise UsageError where there is no checkpoint to make a model folder of."""
    if not checkpoint_files.standing(run):
        raise UsageError(f"nothing to export: '{run}' holds no checkpoint of a run.")


def refuse_standing(run: Path) -> None:
    """Leave a run that is there alone.

    Raises:
        OutputExists: a run stands there.
    """
    if _standing(run):
        raise OutputExists(
            f"'{run}' already holds a run. "
            "Go on with resume=True, start anew with overwrite=True, or give another folder."
        )


def _standing(run: Path) -> list[Path]:
    """What a run in this folder has left."""
    own = [run / name for name in OWN if (run / name).exists()]
    return [*own, *(run / TENSORBOARD).glob(EVENTS), *checkpoint_files.standing(run)]


class Metrics:
    """metrics.jsonl: a line every few steps and one an epoch, in the order of the run."""

    def __init__(self, run: Path, epoch: int, step: int, *, written: bool = True) -> None:
        """Go on after (epoch, step): lines past it, of work that was not saved, are dropped.

        Args:
            written: by this process; of several the first alone writes.
        """
        self.path, self._lines, self._written = run / METRICS, list[dict[str, float]](), written
        if not written:
            return
        lines = (
            self.path.read_text(encoding="utf-8", errors="replace").splitlines()
            if self.path.exists()
            else []
        )
        kept = [line for line in lines if _place(line) <= (epoch, step)]
        self._replace("".join(f"{line}\n" for line in kept))
        self._lines = [
            values
            for values in map(json.loads, kept)
            if values["epoch"] == epoch and values["step"] > 0
        ]

    def write_step(self, epoch: int, step: int, values: dict[str, float]) -> None:
        """`step` steps of epoch `epoch` are done."""
        self._lines.append(values)
        self._append({"epoch": epoch, "step": step} | values)

    def write_epoch(self, epoch: int, values: dict[str, float]) -> dict[str, float]:
        """The epoch before `epoch` is over; returns its line: its steps' means, the last rate, and
        `values`.
        """
        last = self._lines[-1] if self._lines else {}
        terms = [name for name in last if name not in ("epoch", "step", "lr")]
        means = {name: sum(line[name] for line in self._lines) / len(self._lines) for name in terms}
        rate = {name: last[name] for name in last if name == "lr"}
        self._lines = []
        line = {"epoch": epoch, "step": 0} | means | rate | values
        self._append(line)
        return line

    def write_failure(self, epoch: int, step: int, message: str) -> None:
        """The run ends here; the line is dropped when it goes on."""
        with contextlib.suppress(TrainingFailed):  # a full disk may be what it ends of
            self._append({"epoch": epoch, "step": step, FAILURE_KEY: message})

    def _append(self, values: Mapping[str, Any]) -> None:
        # JSON has no word for what is not finite
        told = {
            name: None if isinstance(v, float) and not math.isfinite(v) else v
            for name, v in values.items()
        }
        if self._written:
            with explained(self.path), self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(told, allow_nan=False) + "\n")

    def _replace(self, text: str) -> None:
        with explained(self.path), replacing(self.path) as file:
            file.write(text.encode())


def sync_metrics(run: Path) -> None:
    """Before a checkpoint is written, so that no power cut leaves one that is ahead of them."""
    path = run / METRICS
    if path.exists():
        with explained(path):
            sync(path)


def explained(path: Path) -> contextlib.AbstractContextManager[None]:
    """Say in one line which file of a run could not be written, and that the run can go on."""
    return writing(path, ". What was saved before still stands: resume=True.", TrainingFailed)


def _place(line: str) -> tuple[int, int]:
    try:
        values = json.loads(line)
        return (2**62, 0) if FAILURE_KEY in values else (values["epoch"], values["step"])
    except (ValueError, KeyError, TypeError):  # the last line of a killed run may be cut short
        return (2**62, 0)


def list_unreadable(run: Path, unreadable: dict[int, str], names: Sequence[str]) -> None:
    """Names and reasons of the images that could not be read, one a line; no file where there are
    none.
    """
    path = run / UNREADABLE
    if not unreadable:
        path.unlink(missing_ok=True)
        return
    rows = [
        f"{names[index]}\t{reason}".replace("\n", "\\n")
        for index, reason in sorted(unreadable.items())
    ]
    with explained(path), replacing(path) as file:
        file.write("".join(f"{row}\n" for row in rows).encode(errors="backslashreplace"))
