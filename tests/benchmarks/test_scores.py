"""Scores on cards are repeated, with those of random networks beside them, and one that differs is
told.
"""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scores
from labelled_splits import place_of_splits, read_splits, training_images
from PIL import Image

import pauc_hub
from pauc_hub.answers.card_scores import evaluation_of
from pauc_hub.answers.measures import Asked
from pauc_hub.hub.verify import ScoreCheck
from pauc_hub.models.catalog import available_models
from pauc_hub.models.folder import ModelFolder

Tell = Callable[..., ScoreCheck]


@pytest.fixture
def tell() -> Tell:
    def make(told: float, found: float | None) -> ScoreCheck:
        return ScoreCheck("kNN", "top-1 %", "val, 10,000", told, found, 0.05)

    return make


@pytest.mark.parametrize(
    ("found", "refusal"),
    [
        ((50.0, 50.05), None),
        ((50.0, 50.06), "disagree"),
        ((None, 50.0), None),
        ((None, None), "no score was repeated"),
    ],
)
def test_what_differs_or_was_not_repeated_is_a_failure(
    found: tuple[float | None, ...],
    refusal: str | None,
    tell: Tell,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scores, "repeated", lambda *_: [tell(50.0, each) for each in found])
    if refusal is None:
        scores.repeat_all({"CIFAR-10": Asked("somewhere")})
        return
    with pytest.raises(SystemExit, match=refusal):
        scores.repeat_all({"CIFAR-10": Asked("somewhere")})


def test_every_score_on_a_bundled_card_can_be_repeated() -> None:
    for name in [entry.name for entry in available_models() if entry.has_weights]:
        for score in pauc_hub.load(name, device="cpu").folder.facts["scores"]:
            assert evaluation_of(score["protocol"]) is not None, f"{name}: {score}"


def test_the_same_network_before_training_is_a_model(model_folder: Path, tmp_path: Path) -> None:
    folder = pauc_hub.load(model_folder, device="cpu").folder
    for name, seed in (("first", 0), ("second", 0), ("third", 1)):
        scores.write_untrained(folder, tmp_path / name, seed)
    first, second, third = (
        pauc_hub.load(tmp_path / name, device="cpu") for name in ("first", "second", "third")
    )
    assert first.weights_sha256 == second.weights_sha256 != third.weights_sha256
    assert first.preprocessing == pauc_hub.load(model_folder, device="cpu").preprocessing


def test_both_networks_are_measured_and_stand_side_by_side(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 12)):
        images = [png(rng, i % 2) for i in range(count)]
        write(tmp_path / f"c-{split}.parquet", images, [i % 2 for i in range(count)])
    asked = Asked(*place_of_splits(tmp_path / "c-train.parquet"), device="cpu", quiet=True)
    folder = pauc_hub.load(model_folder, device="cpu").folder
    told = scores.measured(folder, {"CIFAR-10": asked})
    assert [score["protocol"].partition(" ")[0] for score in told] == ["linear", "weighted"]
    assert {(score["bank"], score["queries"]) for score in told} == {
        ("CIFAR-10 train, 24", "CIFAR-10 test, 12")
    }
    monkeypatch.setattr(ModelFolder, "facts", {"scores": told})
    # however the images are named
    (tmp_path / "c-train.parquet").rename(tmp_path / "d-train.parquet")
    (tmp_path / "c-test.parquet").rename(tmp_path / "d-test.parquet")
    asked = Asked(*place_of_splits(tmp_path / "d-train.parquet"), device="cpu", quiet=True)
    checks = list(scores.repeated(folder, asked))
    assert [check.holds for check in checks] == [True] * 4
    assert [check.found for check in checks] == [
        score[key] for key in ("value", "random") for score in told
    ]


def png(rng: np.random.Generator, label: int) -> bytes:
    buffer = io.BytesIO()
    pixels = (100 * label + rng.integers(0, 120, (32, 32, 3))).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write(path: Path, images: list[bytes], labels: list[int]) -> None:
    rows = [{"bytes": image, "path": None} for image in images]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array(rows, kind), "label": labels}), path)


def test_splits_of_parquet(tmp_path: Path) -> None:
    write(tmp_path / "some-train-00.parquet", [b"a", b"b"], [0, 1])
    write(tmp_path / "some-train-01.parquet", [b"c"], [2])
    write(tmp_path / "some-val.parquet", [b"d"], [1])
    bank, queries = read_splits(tmp_path)
    assert (bank.images, bank.labels.tolist()) == ([b"a", b"b", b"c"], [0, 1, 2])
    assert (queries.images, queries.labels.tolist()) == ([b"d"], [1])
    assert training_images(tmp_path) == str(tmp_path / "*train*.parquet")
    write(tmp_path / "c-train.parquet", [b"a"], [0])
    with pytest.raises(SystemExit, match="has no test or val split"):
        read_splits(tmp_path / "c-train.parquet")
    write(tmp_path / "c-test.parquet", [b"e"], [0])
    assert read_splits(tmp_path / "c-train.parquet")[1].images == [b"e"]


def test_splits_of_tiny_imagenet(tmp_path: Path) -> None:
    for name in ("n02", "n01"):
        folder = tmp_path / "train" / name / "images"
        folder.mkdir(parents=True)
        (folder / f"{name}_0.JPEG").touch()
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "val_annotations.txt").write_text("v0.JPEG\tn02\t0\t0\t1\t1\n")
    bank, queries = read_splits(tmp_path)
    assert [Path(str(image)).name for image in bank.images] == ["n01_0.JPEG", "n02_0.JPEG"]
    assert queries.labels.tolist() == [1]
    assert training_images(tmp_path) == str(tmp_path / "train")
