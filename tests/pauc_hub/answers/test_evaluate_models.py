"""Evaluation of models on images: alignment, scores that go into a card, and two models compared in
one command.
"""

import json
import re
import shutil
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pauc_hub
from pauc_hub.answers.alignment import AREA, view
from pauc_hub.answers.card_scores import write_into_card
from pauc_hub.answers.evaluate import Evaluation
from pauc_hub.answers.measures import Asked, measure
from pauc_hub.cli import run
from pauc_hub.errors import ModelFolderError, UsageError
from pauc_hub.files.checksums import SUMS, format_sums
from pauc_hub.hub.verify import verify_folder
from pauc_hub.models.bundled import bundled_folders
from pauc_hub.models.card import render_card, score_row
from pauc_hub.models.folder import CARD, FACTS, open_folder

COLOURS = {"red": (200, 40, 40), "blue": (40, 40, 200)}
FACTS_OF_A_RUN: dict[str, Any] = {
    "name": "own",
    "architecture": "test_resnet",
    "command": "pauc train images -o run",
    "commit": "abc1234",
    "config": {"objective": "pauc", "size": 64, "epochs": 1},
    "data": {"name": "images", "images": 100, "list_sha256": "0f0f", "unreadable": 0},
    "hardware": {"device": "cpu", "name": "Some CPU", "cores": 2, "memory_gb": 24},
    "versions": {"python": "3.11.7"},
    "seconds": 5.0,
    "epochs": 1,
    "scores": [],
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of twelve noisy squares, of 32 pixels."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for i in range(12):
            pixels = np.array(colour) + rng.normal(0, 30, (32, 32, 3)) + rng.normal(0, 40, 3)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def own(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """A fresh copy of the model, with the receipts and the card of a run."""

    def copy() -> Path:
        folder = tmp_path_factory.mktemp("models") / "own"
        shutil.copytree(model_folder, folder)
        put(folder, FACTS, json.dumps(FACTS_OF_A_RUN))
        put(folder, CARD, render_card(FACTS_OF_A_RUN))
        return folder

    return copy


def put(folder: Path, name: str, text: str) -> None:
    """Write a file of a model folder, with its sum."""
    (folder / name).write_text(text, encoding="utf-8")
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != SUMS}
    (folder / SUMS).write_bytes(format_sums(files))


@pytest.fixture(scope="module")
def evaluated(own: Callable[[], Path], photos: Path) -> tuple[Path, Evaluation]:
    folder = own()
    (found,) = pauc_hub.evaluate(folder, photos, into_card=True, device="cpu", quiet=True)
    return folder, found


def test_scores_go_into_facts_card_and_sums(evaluated: Any) -> None:
    folder, found = evaluated
    assert found.card == folder
    verify_folder(folder)
    facts = open_folder(folder).facts
    scores = {
        (score["protocol"].partition(":")[0], score["metric"]): score for score in facts["scores"]
    }
    measured = found.file.scores
    linear = scores["linear probe", "top-1 %"]
    assert linear["value"] == round(100 * measured["linear"]["top1"]["value"], 2)
    assert linear["command"].startswith("pauc eval ")
    assert (linear["bank"], linear["queries"]) == ("photos, 24", "photos, 24 in 5 folds")
    wanted = {"alignment", "uniformity", "correlation", "effective rank", "intra_share"}
    wanted |= {"NMI", "AMI", "ARI", "accuracy, matched %", "top-1 %", "mean per class %", "mAP %"}
    assert {metric for _, metric in scores} == wanted
    assert scores["geometry of unit features", "alignment"]["value"] == pytest.approx(
        measured["geometry"]["alignment"]["value"], abs=1e-4
    )
    card = (folder / CARD).read_text()
    assert card == render_card(facts)
    assert score_row(linear) in card
    assert f"{linear['value']} ({linear['low']} to {linear['high']})" in card


def test_measured_again_they_take_the_place_of_the_earlier_ones(evaluated: Any) -> None:
    folder, found = evaluated
    before = open_folder(folder).facts["scores"]
    write_into_card(folder, found.file, "pauc eval again")
    after = open_folder(folder).facts["scores"]
    assert [score["value"] for score in after] == [score["value"] for score in before]
    assert {score["command"] for score in after} == {"pauc eval again"}
    verify_folder(folder)


def test_what_people_wrote_into_the_card_stays(evaluated: Any, own: Callable[[], Path]) -> None:
    _, found = evaluated
    folder = own()
    text = (folder / CARD).read_text().replace(
        "license: other", "license: mit"
    ) + "\nWritten by hand.\n"
    put(folder, CARD, text)
    write_into_card(folder, found.file, "pauc eval")
    card = (folder / CARD).read_text()
    assert "license: mit\n" in card
    assert "Written by hand.\n" in card
    assert "model-index:" in card
    verify_folder(folder)
    put(folder, CARD, card.replace("| seed |", "| start |"))
    with pytest.raises(
        ModelFolderError, match="was edited in its section of scores, which would be lost"
    ):
        write_into_card(folder, found.file, "pauc eval")


def test_a_converted_model_gets_scores_too(evaluated: Any, own: Callable[[], Path]) -> None:
    _, found = evaluated
    folder = own()
    put(folder, CARD, "# Converted\n")
    write_into_card(folder, found.file, "pauc eval")
    assert "# Converted\n\n## Scores\n" in (folder / CARD).read_text()


def test_what_is_not_the_users_own_is_refused_before_any_work(
    own: Callable[[], Path], photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bundled = bundled_folders()[0]
    assert run(["eval", bundled.name, str(photos), "--into-card"]) == 2
    told = capfd.readouterr().err
    assert told.startswith(
        f"error: '{bundled.name}' is bundled with this package, and its card stays as it is."
    )
    assert told.count("\n") == 1
    with pytest.raises(UsageError, match=r"lies in a cache, and into_card=True writes none there"):
        pauc_hub.evaluate("hf-hub:me/model", photos, into_card=True, quiet=True)
    bare = own()
    (bare / FACTS).unlink()
    sums = (bare / SUMS).read_text().splitlines(keepends=True)
    (bare / SUMS).write_text("".join(line for line in sums if FACTS not in line))
    with pytest.raises(UsageError, match=r"has no facts.json, into which scores could go"):
        pauc_hub.evaluate(
            bare, photos, into_card=True, output=tmp_path / "a.scores.json", quiet=True
        )
    assert list(tmp_path.iterdir()) == []


def test_scores_of_other_weights_are_refused(evaluated: Any, own: Callable[[], Path]) -> None:
    _, found = evaluated
    other = replace(found.file, origin=replace(found.file.origin, weights_sha256="0" * 64))
    with pytest.raises(
        ModelFolderError, match="has other weights now than those that were measured"
    ):
        write_into_card(own(), other, "pauc eval")


def test_alignment_is_the_distance_of_two_views(
    evaluated: Any, own: Callable[[], Path], photos: Path
) -> None:
    """By hand, with the same views; and it is no distance between different images."""
    _, found = evaluated
    score = found.file.scores["geometry"]["alignment"]
    model = pauc_hub.load(own(), device="cpu", precision=found.file.origin.precision)
    distances = []
    for path in found.file.predictions["path"]:
        rng = np.random.default_rng([0, zlib.crc32(path.encode())])
        image = Image.open(photos / path)
        first, second = (model.embed(view(image, rng))[0].astype(float) for _ in range(2))
        distances.append(
            np.square(first / np.linalg.norm(first) - second / np.linalg.norm(second)).sum()
        )
    assert score["value"] == pytest.approx(np.mean(distances), rel=1e-3)
    assert 0 < score["low"] < score["value"] < score["high"]


def test_views_are_crops_of_some_size() -> None:
    image = Image.new("RGB", (300, 200), "teal")
    rng = np.random.default_rng(0)
    sizes = [view(image, rng).size for _ in range(200)]
    areas = np.array([width * height / 60_000 for width, height in sizes])
    assert areas.min() > AREA[0] - 0.01
    assert areas.max() > 0.8
    assert len({width / height > 1.5 for width, height in sizes}) == 2
    assert view(Image.new("RGB", (1, 1)), rng).size == (1, 1)


def test_two_models_are_compared_in_one_command(
    own: Callable[[], Path], headless_folder: Path, photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = own()
    words = [str(first), str(headless_folder), str(photos), "--device", "cpu"]
    assert run(["compare", *words, "--json", "--quiet"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert (found["first"]["model"], found["images"]) == ("own", 24)
    # which have the same weights
    assert {score["verdict"] for score in found["scores"]} <= {"equivalent", "not_told_apart"}
    assert all(score["first"] == score["second"] for score in found["scores"])
    assert found["flips"]["linear"]["first_only"] == 0


def test_it_is_told_from_which_similarity_on_test_images_count_as_copies(
    headless_folder: Path, photos: Path
) -> None:
    asked = Asked(data=photos, test=photos, device="cpu", quiet=True, only=frozenset({"knn"}))
    file, notes = measure(str(headless_folder), asked)
    assert file.data["copies"] == 24
    (told,) = [note for note in notes if "count as copies" in note]
    assert re.fullmatch(
        r"test images count as copies from a similarity of \d\.\d{4} on; \d+% of \d+ re-encoded, "
        "resized and cropped copies reach it",
        told,
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["pauc_resnet18", "old"],
            "'pauc_resnet18' is no scores file. To compare two models, give labelled images",
        ),
        (
            ["a.scores.json", "old", "photos"],
            "'a.scores.json' is a scores file, which needs no images: leave 'photos'",
        ),
        (
            ["a.scores.json", "b.scores.json", "--test", "c"],
            "--test c is for two models and their images",
        ),
        (["pauc_resnet18", "pauc_resnet1", "photos"], "unknown model 'pauc_resnet1'."),
    ],
)
def test_what_cannot_be_compared_is_told(
    words: list[str], told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["compare", *words]) in (1, 2)
    printed = capfd.readouterr().err
    assert printed.startswith(f"error: {told}")
    assert printed.count("\n") == 1
