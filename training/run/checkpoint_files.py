"""The last few checkpoints of a run: each tells by a sum whether it is as it was written; the
newest whole one counts.

One of resnet50 with a queue of 16,384 has 340 MB, and its sum takes a third of a second.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pauc_hub.files.atomic import sync

FOLDER = "checkpoints"
KEPT = 2  # the newest, and one that stands in for it should the disk have damaged it
# a folder, since safetensors writes beside and renames as well; killed processes leave it
WRITING = ".writing"
SUM = "sha256"

_Moment = tuple[int, int]  # an epoch, and its steps that are done
Failures = (OSError, SafetensorError)  # of reading and writing


class Damaged(Exception):
    """A checkpoint is not as it was written."""


def path_at(run: Path, moment: _Moment) -> Path:
    return run / FOLDER / "{:05}-{:07}.safetensors".format(*moment)


def standing(run: Path) -> list[Path]:
    """All there are, the newest first; other files are not looked at."""
    folder = run / FOLDER
    found = {
        moment: path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if (moment := _moment(path))
    }
    return [found[moment] for moment in sorted(found, reverse=True)]


def put(run: Path, moment: _Moment, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write beside, sync, rename, and only then let go of older ones: a crash at any time leaves
    the one before.

    Those that are said to be newer go too: they are of work that was lost, such as a damaged one's.

    Raises:
        OSError, SafetensorError: the disk is full or the folder is gone; nothing has changed.
    """
    path = path_at(run, moment)
    if not path.parent.is_dir():
        path.parent.mkdir()
        sync(run)
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    shutil.rmtree(path.with_name(WRITING), ignore_errors=True)
    temporary = path.with_name(WRITING) / path.name
    try:
        temporary.parent.mkdir()
        save_file(whole, temporary, metadata | {SUM: _sum(metadata, whole, whole.__getitem__)})
        temporary.chmod(
            temporary.parent.stat().st_mode & 0o666
        )  # safetensors' own is for the owner alone, umask or not
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        shutil.rmtree(temporary.parent, ignore_errors=True)
    keep(run, KEPT, newest=path)


def keep(run: Path, count: int, newest: Path | None = None) -> None:
    """Remove all but the last few, of those from `newest` on where that is given."""
    paths = standing(run)
    kept = paths[paths.index(newest) if newest else 0 :][:count]
    for path in paths:
        if path not in kept:
            path.unlink()


def clear(run: Path) -> None:
    """Remove all of them, and the folder if nothing else lies there."""
    keep(run, 0)
    shutil.rmtree(run / FOLDER / WRITING, ignore_errors=True)
    with suppress(OSError):
        sync(run / FOLDER)
        (run / FOLDER).rmdir()


def inspect(path: Path) -> dict[str, str]:
    """The metadata of a checkpoint all of which is as it was written.

    Raises:
        Damaged: it is not, or cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            told = metadata.pop(SUM, None)
            found = _sum(metadata, file.keys(), file.get_tensor)
    except Failures as error:
        raise Damaged(str(error)) from error
    if told != found:
        raise Damaged("its checksum does not match")
    return metadata


def tensors_in(path: Path, device: torch.device) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name).to(device) for name in file.keys()}  # noqa: SIM118 (not a mapping)


def _moment(path: Path) -> _Moment | None:
    named = re.fullmatch(r"(\d+)-(\d+)\.safetensors", path.name)
    return (int(named[1]), int(named[2])) if named else None


def _sum(metadata: dict[str, str], names: Iterable[str], tensor_of: Callable[[str], Tensor]) -> str:
    """Over all that a file says, in an order of its own: safetensors' is not promised."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(names):
        tensor = tensor_of(name)
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
