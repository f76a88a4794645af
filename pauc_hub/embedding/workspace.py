"""The working folder of a run: hidden beside its output, it keeps what is done until all is. N
images, D width.

It holds `run.json`, what is being made; shards of what is done; and, towards the end, the finished
files in `making/`. Renaming that to `finished/` is the moment from which the run is done: all that
is left is to move its files.
"""

import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from pauc_hub.embedding.plan import Plan
from pauc_hub.embedding.shards import NAME, Outcomes, read_shard, shards_in_a_row, write_shard
from pauc_hub.errors import PaucError
from pauc_hub.files.atomic import remove, replacing, sync
from pauc_hub.files.failures import writing
from pauc_hub.files.locks import locked
from pauc_hub.files.ownership import require_own
from pauc_hub.tables.outputs import check_output, files_of, pca_path
from pauc_hub.tables.table import errors_path

SHARD_BYTES = 1 << 24  # of embeddings in a shard
SHARD_SECONDS = 15.0  # of work in a shard, which is what a power cut costs
RUN, MAKING, FINISHED = "run.json", "making", "finished"
OWN = re.compile(rf"\.?({re.escape(RUN)}|{MAKING}|{FINISHED}|{NAME.pattern})(\.[0-9a-f]{{8}})?")
# the errors table among the finished files, which may have the very name of the table
ERRORS = ".errors"


class Workspace:
    """What open_workspace() gives."""

    def __init__(self, folder: Path, output: Path) -> None:
        self.output = output
        self._folder = folder
        self._shards: dict[int, Path] = {}  # by the first image of each
        self._saved = 0
        self._held: list[Outcomes] = []
        self._held_since = time.monotonic()

    @property
    def done(self) -> int:
        """Images, from the first of the list on, that need not be looked at again."""
        return self._saved + sum(part.count for part in self._held)

    @property
    def remarks(self) -> Counter[str]:
        """How many of the images that are done each remark of images.decoding holds for, in all
        sittings.
        """
        return sum((part.remarks for part in [*self.outcomes(), *self._held]), Counter())

    def add(self, outcomes: Outcomes) -> None:
        """Take the outcomes of the images that come next; they are safe once a shard is full."""
        self._held.append(outcomes)
        full = sum(part.embeddings.nbytes for part in self._held) >= SHARD_BYTES
        if full or time.monotonic() - self._held_since >= SHARD_SECONDS:
            self.save()

    def save(self) -> None:
        """Make all that was taken safe.

        Raises:
            PaucError: there is no room for it.
        """
        if self._held:
            joined = Outcomes.joined(self._held)
            with _telling(self.output):
                self._shards[self._saved] = write_shard(self._folder, self._saved, joined)
            # first: if Ctrl-C falls between the two, then the rows are not saved twice
            self._held = []
            self._saved += joined.count
        self._held_since = time.monotonic()

    def outcomes(self) -> Iterator[Outcomes]:
        """What was saved, shard by shard."""
        return map(read_shard, self._shards.values())

    def making(self) -> Path:
        """An empty folder for the finished files, under their final names; that of the errors table
        is ERRORS.
        """
        folder = self._folder / MAKING
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def publish(self) -> None:
        """Put the finished files in their places, and end the working folder."""
        with _telling(self.output):
            sync(self._folder / MAKING)
            (self._folder / MAKING).rename(self._folder / FINISHED)
            sync(self._folder)
            _settle(self._folder, self.output)

    def load(self) -> None:
        """Find what an earlier sitting saved, and clear away what it was about to."""
        for path, done in shards_in_a_row(self._folder.iterdir()):
            self._shards[self._saved] = path
            self._saved = done
        _clear(self._folder, {*self._shards.values(), self._folder / RUN})


def working_folder(output: Path) -> Path:
    return output.with_name(f".{output.name}.unfinished")


def finish_moving(output: Path) -> None:
    """Bring to its end a run that was stopped when all was done but the moving of its files.

    Raises:
        UsageError: the working folder's place is taken by a link, or by another user.
        PaucError: another run is at it.
    """
    folder = working_folder(output)
    require_own(folder)
    if (folder / FINISHED).is_dir():
        with _locked(folder, output):
            _settle(folder, output)
    # only one that holds nothing goes: the last breath of a run that died just before its end
    with suppress(OSError):
        folder.rmdir()


def read_begun(output: Path) -> dict[str, Any] | None:
    """The preprocessing of a stopped run for this output; None where there is none, or it is
    damaged.
    """
    try:
        begun = json.loads((working_folder(output) / RUN).read_bytes())
        return dict(begun["preprocessing"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def check_start(output: Path, overwrite: bool) -> None:
    """Find out before any work whether a run can put its table there.

    Raises:
        UsageError, OutputExists: as check_output() does.
        PaucError: as finish_moving() does.
    """
    finish_moving(output)
    check_output(output, overwrite)


@contextmanager
def open_workspace(
    output: Path, plan: Plan, *, overwrite: bool = False, restart: bool = False
) -> Iterator[Workspace]:
    """Begin a run, or go on with one that was stopped; when stopped by an error, what is done is
    saved.

    Args:
        overwrite: whether outputs that are there may be replaced.
        restart: drop what was done before.

    Raises:
        UnfinishedRun: what was done before is of another plan.
        UsageError, OutputExists, PaucError: as check_start().
    """
    check_start(output, overwrite)
    folder = working_folder(output)
    if restart and folder.exists():
        with _locked(folder, output):
            _remove(folder)
    if not (folder / RUN).exists():
        with _telling(output):
            _begin(folder, plan)
    with _locked(folder, output):
        plan.require_same(folder / RUN, output)
        work = Workspace(folder, output)
        work.load()
        try:
            yield work
        except BaseException:
            with suppress(PaucError):  # the reason of the stop matters more
                work.save()
            if not work.done:
                _remove(folder)
            raise


def _begin(folder: Path, plan: Plan) -> None:
    _remove(folder)  # what is left of one that was being removed
    folder.mkdir(exist_ok=True)
    try:
        with replacing(folder / RUN) as file:
            file.write(json.dumps(plan.to_run(), indent=1).encode())
    except OSError:
        _remove(folder)
        raise


def _remove(folder: Path) -> None:
    """A working folder, as far as it holds nothing of anybody else's."""
    with suppress(OSError):
        _clear(folder, set())
        folder.rmdir()


def _clear(folder: Path, kept: set[Path]) -> None:
    """Remove what runs make in a working folder, whole or half written; other files there are left
    alone.
    """
    for path in {*folder.iterdir()} - kept:
        if OWN.fullmatch(path.name):
            remove(path)


def _locked(folder: Path, output: Path) -> AbstractContextManager[None]:
    return locked(
        folder, f"another process is writing '{output}'. Wait for it, or name another output."
    )


def _telling(output: Path) -> AbstractContextManager[None]:
    return writing(output, ". Make room, and the same command goes on where it stopped.")


def _settle(folder: Path, output: Path) -> None:
    """Move finished files to their places; may be stopped anywhere, and done again."""
    finished = folder / FINISHED
    places = {
        path: errors_path(output) if path.name == ERRORS else output.with_name(path.name)
        for path in finished.iterdir()
    }
    # a whole table: of the one that it replaces, nothing may stay
    if (finished / output.name).exists():
        for stale in {errors_path(output), *files_of(output), pca_path(output)} - {
            output,
            *places.values(),
        }:
            stale.unlink(missing_ok=True)
    # the table first, see above
    for path, place in sorted(places.items(), key=lambda item: item[1] != output):
        place.parent.mkdir(exist_ok=True)
        path.replace(place)
    sync(output.parent)
    _clear(folder, {finished})
    remove(finished)  # after all others, since it says that nothing else here is needed
    _remove(folder)
