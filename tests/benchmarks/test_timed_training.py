"""Recipes begin, go on and are left alone when finished; a run is stopped when its time is over."""

import json
import time
from pathlib import Path

import pytest
import timed_training
from timed_training import command_for, train_all, until

PATIENT = ("sh", "-c", "trap 'exit 130' INT; while :; do sleep 0.05; done")


def test_a_run_begins_goes_on_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = command_for("cifar10_pauc", "images", tmp_path, "cpu", ["--epochs", "2"])
    assert begun is not None
    assert begun[3:] == [
        *("train", "images", "-o", str(tmp_path), "--device", "cpu"),
        *("--recipe", "cifar10_pauc", "--overwrite", "--epochs", "2"),
    ]
    monkeypatch.setattr(timed_training, "standing", lambda _: [tmp_path])
    goes_on = command_for("cifar10_pauc", "images", tmp_path, "cpu", ["--epochs", "2"])
    assert goes_on is not None
    assert goes_on[3:] == ["train", "images", "-o", str(tmp_path), "--device", "cpu", "--resume"]
    facts = tmp_path / "model" / "facts.json"
    facts.parent.mkdir()
    facts.write_text(json.dumps({"unfinished": {"epoch": 1}}))
    assert command_for("cifar10_pauc", "images", tmp_path, "cpu", []) is not None
    facts.write_text("{}")
    assert command_for("cifar10_pauc", "images", tmp_path, "cpu", []) is None


def test_time_is_over() -> None:
    began = time.monotonic()
    assert until(began + 1, PATIENT) == 130
    assert until(time.monotonic() + 60, ("sh", "-c", "exit 7")) == 7
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("codes", "expected", "asked"), [((0, 3, 0), 0, 3), ((130,), 0, 1), ((0, 1), 1, 2)]
)
def test_recipes_one_after_the_other(
    codes: tuple[int, ...],
    expected: int,
    asked: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[str] = []

    def ended(_: float, command: list[str]) -> int:
        given.append(command[-1])
        return codes[len(given) - 1]

    monkeypatch.setattr(timed_training, "training_images", str)
    monkeypatch.setattr(timed_training, "until", ended)
    monkeypatch.setattr(timed_training, "command_for", lambda recipe, *_: [recipe])
    assert train_all({"cifar": tmp_path}, tmp_path, 1, "cpu", []) == expected
    assert given == ["cifar10_infonce", "cifar10_protonce", "cifar10_pauc"][:asked]
    given.clear()
    assert train_all({"cifar": tmp_path}, tmp_path, 0, "cpu", []) == 0
    assert given == []
