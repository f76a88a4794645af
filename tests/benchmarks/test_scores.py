"""Scores on cards are repeated by protocol and data, and one that is off is told."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scores
from labelled_splits import Split, read_splits, training_images

import pauc_hub
from pauc_hub.models.catalog import available_models

SPLITS = {"CIFAR-10": (Split([b""] * 50, np.zeros(50, np.int64)), Split([b""] * 10, np.zeros(10, np.int64)))}


def card(value: float, **changes: Any) -> dict[str, Any]:
    told = {"protocol": scores.KNN, "bank": "CIFAR-10 train, 50", "queries": "CIFAR-10 test, 10", "value": value}
    return told | changes


class Carded:
    """A model of which only the card is asked for."""

    name = "some"

    def __init__(self, *told: dict[str, Any]) -> None:
        self.folder = type("Folder", (), {"facts": {"scores": list(told)}})


@pytest.mark.parametrize(
    ("told", "verdict"),
    [
        (card(50.0), "same"),
        (card(50.05), "same"),
        (card(50.06), "off"),
        (card(50.0, bank="CIFAR-10 train, 51"), "off"),
        (card(50.0, protocol="some other"), "off"),
        (card(50.0, bank="Tiny ImageNet train, 50", queries="Tiny ImageNet val, 10"), "left out"),
    ],
)
def test_a_score_is_repeated(told: dict[str, Any], verdict: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores.Bench, "top1", lambda *_: 50.0)
    [(found, line)] = scores.repeated(Carded(told), SPLITS)  # type: ignore[arg-type]
    assert found == verdict
    assert line.startswith("some: ")


def test_every_score_on_a_bundled_card_can_be_repeated() -> None:
    for name in [entry.name for entry in available_models() if entry.has_weights]:
        for score in pauc_hub.load(name, device="cpu").folder.facts["scores"]:
            assert scores.data_of(score) is not None, f"{name}: {score}"


def test_nothing_repeated_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "repeated", lambda *_: iter([("left out", "")]))
    with pytest.raises(SystemExit, match="no score was repeated"):
        scores.repeat_all({}, "cpu")
    monkeypatch.setattr(scores, "repeated", lambda *_: iter([("same", ""), ("off", "")]))
    with pytest.raises(SystemExit, match="disagree"):
        scores.repeat_all({}, "cpu")


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
