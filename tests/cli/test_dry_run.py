"""`pauc train --dry-run`: what would be done and what it would take, on the right streams, and no
file.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pauc_hub.cli import run
from pauc_hub.cli.estimate import show_estimate, span
from pauc_hub.cli.settings import show_settings
from pauc_hub.training import rehearsal
from pauc_hub.training.auto import Choice
from pauc_hub.training.config import Config
from pauc_hub.training.rehearsal import Estimate

DRY = ("train", "photos", "--dry-run", "--device", "cpu", "--workers", "1")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with photos/ alone."""
    (tmp_path / "photos").mkdir()
    for i in range(40):
        Image.fromarray(np.full((36, 32, 3), 6 * i, np.uint8)).save(
            tmp_path / "photos" / f"{i:02}.png"
        )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rehearsal, "MOST_STEPS", 3)
    return tmp_path


def test_settings_and_estimate_are_told_and_nothing_is_left(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*DRY, "-o", "run", "--epochs", "7"]) == 0
    printed = capsys.readouterr()
    heading, *chosen, note = printed.err.splitlines()
    assert (
        heading == "40 images; chosen for them and this machine, where nothing else was asked for:"
    )
    names = ["size", "architecture", "batch_size", "norm_group", "clusters", "queue", "lr"]
    assert [line.split()[0] for line in chosen] == names
    assert all(line.startswith("  ") and line.endswith(")") for line in chosen)
    assert note.startswith("the model's prototypes will be uncalibrated: 0.01 of 40 images")
    time, memory = printed.out.splitlines()
    assert time.startswith("time: about ")
    assert " for 7 epochs, each " in time
    assert memory.startswith("memory: about ")
    assert [path.name for path in here.iterdir()] == ["photos"]


def test_the_object_holds_settings_reasons_and_estimate(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "mine.toml").write_text('objective = "infonce"\ndim = 16\nepochs = 5\n')
    assert run([*DRY, "--json", "--quiet", "--config", "mine.toml", "--epochs", "3"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert printed.err == ""
    expected = {
        "objective": "infonce",
        "dim": 16,
        "epochs": 3,
        "size": 32,
        "batch_size": 40,
        "clusters": [2, 3],
    }
    assert {name: found["settings"][name] for name in expected} == expected
    assert found["reasons"].keys() == {
        "architecture",
        "size",
        "batch_size",
        "norm_group",
        "clusters",
        "queue",
        "lr",
    }
    assert found["estimate"].keys() == Estimate.__dataclass_fields__.keys()
    assert found["estimate"]["seconds"] > 0
    assert sorted(path.name for path in here.iterdir()) == ["mine.toml", "photos"]


def test_a_learning_rate_that_was_given_is_told_with_what_becomes_of_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = Config(lr=0.06, batch_size=512)
    show_settings(config, [Choice("queue", 4096, "why")], 9)
    *_, queue, rate = capsys.readouterr().err.splitlines()
    assert queue == "  queue 4096  (why)"
    assert rate == "lr 0.06  (for a batch of 256, and in proportion: 0.12 for 512)"
    show_settings(config, [Choice("lr", 0.06, "why")], 9)
    assert capsys.readouterr().err.splitlines()[-1] == "  lr 0.06  (why)"


def test_a_run_that_stands_there_does_not_matter(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "run").mkdir()
    (here / "run" / "config.json").write_text("{}")
    told = Estimate(1, 1, 1, 1, 1, 1, None, 1)
    monkeypatch.setattr(rehearsal, "rehearse", lambda *_, **__: told)
    assert run([*DRY, "-o", "run", "--quiet"]) == 0
    assert (here / "run" / "config.json").read_text() == "{}"


def test_any_setting_is_given_by_set_and_one_without_effect_is_named(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "rehearse", lambda *_, **__: Estimate(1, 1, 1, 1, 1, 1, None, 1))
    command = [
        *DRY,
        "--json",
        "--objective",
        "protonce",
        "--set",
        "temperature=0.1",
        "--set",
        "clusters=2,3",
    ]
    assert run([*command, "--set", "weight_align=0.5"]) == 0
    printed = capsys.readouterr()
    settings = json.loads(printed.out)["settings"]
    assert (settings["temperature"], settings["clusters"], settings["weight_align"]) == (
        0.1,
        [2, 3],
        0.5,
    )
    warnings = [line for line in printed.err.splitlines() if line.startswith("warning: ")]
    assert warnings == ["warning: --set weight_align=0.5 has no effect with --objective protonce"]
    assert run([*command, "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_labelled_images_are_told_of_after_the_settings(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cat", "dog"):
        shutil.copytree(here / "photos", here / "labelled" / name)
    monkeypatch.setattr(rehearsal, "rehearse", lambda *_, **__: Estimate(1, 1, 1, 1, 1, 1, None, 1))
    assert run([*DRY, "--labelled", "labelled"]) == 0
    heading, *_, last = capsys.readouterr().err.splitlines()
    assert heading.startswith("40 images; ")
    assert last == (
        f"kNN on '{here / 'labelled'}': 2 classes, 64 vote on 16 (four of five images on every "
        "fifth of a class); "
        "chance is 50.0 %"
    )


def test_time_and_memory_are_told_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    told = Estimate(9000, 40, 0.4, 14, 0.25, 3.06, None, 23.5)
    show_estimate(told, Config(epochs=100), [], as_json=False)
    show_estimate(
        Estimate(9000, 40, 0.4, 14, 0.25, 3.06, 11.14, 80),
        Config(epochs=100, objective="infonce"),
        [],
        as_json=False,
    )
    assert capsys.readouterr().out.splitlines() == [
        (
            "time: about 2 h 30 min for 100 epochs, each 40 s of learning, 14 s of E-step, 0.25 s "
            "of saving"
        ),
        "memory: about 3.1 of this machine's 23.5 GiB",
        "time: about 2 h 30 min for 100 epochs, each 40 s of learning, 0.25 s of saving",
        "memory: about 11.1 of the GPU's 80.0 GiB, and 3.1 GiB of the machine's",
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0 s"),
        (0.0234, "0.023 s"),
        (9.87, "9.9 s"),
        (9.99, "10 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (7200, "2 h"),
        (7499, "2 h 4 min"),
        (90_000, "1 day 1 h"),
        (300_000, "3 days 11 h"),
        (86_400 * 21, "21 days"),
    ],
)
def test_spans_of_time_have_two_units_at_most(seconds: float, words: str) -> None:
    assert span(seconds) == words
