"""The shelf of checkpoints: the last few are kept, no crash or full disk costs one, no flipped bit
passes.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from pauc_hub.files.atomic import sync
from pauc_hub.training.run import checkpoint_files

CPU = torch.device("cpu")
TENSORS = {
    "weights": torch.arange(600.0).view(20, 30),
    "half": torch.arange(7.0).bfloat16(),
    "count": torch.tensor(5),
    "none": torch.zeros(0, 3),
}
METADATA = {"format": "7", "place": "here"}


def put(run: Path, *moment: int) -> None:
    epoch, step = moment
    checkpoint_files.put(run, (epoch, step), TENSORS, METADATA | {"place": f"{epoch} {step}"})


def places(run: Path) -> list[str]:
    """Of all that are whole, the newest first."""
    return [checkpoint_files.inspect(path)["place"] for path in checkpoint_files.standing(run)]


def test_tensors_and_metadata_come_back(tmp_path: Path) -> None:
    checkpoint_files.put(tmp_path, (1, 2), TENSORS, METADATA)
    (path,) = checkpoint_files.standing(tmp_path)
    assert path == tmp_path / "checkpoints" / "00001-0000002.safetensors"
    assert checkpoint_files.inspect(path) == METADATA
    found = checkpoint_files.tensors_in(path, CPU)
    assert found.keys() == TENSORS.keys()
    assert all(
        found[name].equal(value) and found[name].dtype == value.dtype
        for name, value in TENSORS.items()
    )


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_who_else_may_read_it_is_the_umasks_affair(tmp_path: Path, umask: int, mode: int) -> None:
    former = os.umask(umask)
    try:
        checkpoint_files.put(tmp_path, (0, 1), {"x": torch.zeros(2)}, {})
    finally:
        os.umask(former)
    assert checkpoint_files.path_at(tmp_path, (0, 1)).stat().st_mode & 0o777 == mode


def test_the_last_two_are_kept_by_place(tmp_path: Path) -> None:
    for moment in ((0, 9), (0, 10), (2, 0), (10, 0), (10, 5)):
        put(tmp_path, *moment)
    assert places(tmp_path) == ["10 5", "10 0"]
    put(tmp_path, 10, 5)
    assert places(tmp_path) == ["10 5", "10 0"]
    checkpoint_files.keep(tmp_path, 1)
    assert places(tmp_path) == ["10 5"]


def test_those_of_lost_work_give_way_and_other_files_stay(tmp_path: Path) -> None:
    put(tmp_path, 3, 0)
    put(tmp_path, 4, 0)
    mine = [
        tmp_path / "checkpoints" / name
        for name in ("best.safetensors", "3-0.txt", "3-x.safetensors")
    ]
    for path in mine:
        path.write_text("mine")
    put(tmp_path, 3, 5)
    assert places(tmp_path) == ["3 5", "3 0"]
    checkpoint_files.clear(tmp_path)
    assert set((tmp_path / "checkpoints").iterdir()) == set(mine)


def test_clearing_leaves_not_even_the_folder(tmp_path: Path) -> None:
    checkpoint_files.clear(tmp_path)
    put(tmp_path, 3, 0)
    (tmp_path / "checkpoints" / ".writing").mkdir()
    (tmp_path / "checkpoints" / ".writing" / ".tmp123").write_text("half")
    checkpoint_files.clear(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_flipped_bit_passes(tmp_path: Path) -> None:
    """Within the header as within the tensors; but for bits that change nothing of what is said."""
    put(tmp_path, 1, 0)
    (path,) = checkpoint_files.standing(tmp_path)
    whole = path.read_bytes()
    header, draws = 8 + int.from_bytes(whole[:8], "little"), np.random.default_rng(0)
    for at in [*range(header), *draws.integers(header, len(whole), 100)]:
        spoilt = bytearray(whole)
        spoilt[at] ^= 1 << int(draws.integers(8))
        path.write_bytes(spoilt)
        try:
            found = checkpoint_files.inspect(path), checkpoint_files.tensors_in(path, CPU)
        except checkpoint_files.Damaged:
            continue
        assert whole[at : at + 1].isspace(), at  # a tab pads as well as a space
        assert found[0] == METADATA | {"place": "1 0"}
        assert all(found[1][name].equal(value) for name, value in TENSORS.items())


def test_a_tensor_of_another_shape_or_type_is_another_checkpoint(tmp_path: Path) -> None:
    sums = set()
    values = torch.arange(1.0, 7.0)
    for tensor in (values, values.view(2, 3), values.view(torch.int32), values.flip(0), -values):
        checkpoint_files.put(tmp_path, (1, 0), {"x": tensor}, {})
        with safe_open(checkpoint_files.standing(tmp_path)[0], framework="pt") as file:
            sums.add(file.metadata()["sha256"])
    assert len(sums) == 5


def test_dying_at_any_touch_of_the_file_system_leaves_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dying_at: Any
) -> None:
    touch = -1

    def in_two(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        path.with_name(".tmp123").write_bytes(b"half")  # as safetensors does
        sync(path.with_name(".tmp123"))
        save_file(tensors, path, metadata)

    monkeypatch.setattr(checkpoint_files, "save_file", in_two)
    while True:
        touch += 1
        run = tmp_path / str(touch)
        run.mkdir()
        put(run, 1, 0)
        put(run, 2, 0)
        with dying_at(touch) as touches:
            put(run, 3, 0)
        assert places(run)[:2] in (["2 0", "1 0"], ["3 0", "2 0"])
        put(run, 3, 0)
        assert places(run) == ["3 0", "2 0"]
        assert len(list((run / "checkpoints").iterdir())) == 2
        if touches[0] <= touch:
            break
    assert touch > 5  # so the deaths did happen


@pytest.mark.parametrize("size", [0, 1, 300, 1000, 2500])
def test_a_write_that_fails_anywhere_leaves_all_as_it_was(
    tmp_path: Path, files_of_at_most: Any, size: int
) -> None:
    put(tmp_path, 1, 0)
    put(tmp_path, 2, 0)
    before = {path.name: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()}
    assert min(map(len, before.values())) > 2500
    with files_of_at_most(size), pytest.raises(checkpoint_files.Failures, match="File too large"):
        put(tmp_path, 3, 0)
    assert {path.name: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()} == before
    put(tmp_path, 3, 0)
    assert places(tmp_path) == ["3 0", "2 0"]
