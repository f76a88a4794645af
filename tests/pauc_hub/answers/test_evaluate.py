"""Evaluations of tables and their comparison: what is scored, written and refused, and the four
verdicts.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.stats import binomtest

import pauc_hub
from pauc_hub.answers.compare import Comparison
from pauc_hub.answers.differences import Compared
from pauc_hub.answers.evaluation_plot import confusion
from pauc_hub.answers.scores_file import read_scores
from pauc_hub.cli import run
from pauc_hub.errors import ArtefactError, OutputExists, UsageError

CLASSES = ("ant", "bee", "cat")
WriteTable = Callable[..., Path]


def rows(count: int, spread: float, seed: int = 0) -> tuple[npt.NDArray[np.float32], list[str]]:
    labels = np.arange(count) % 3
    vectors = (
        2 * np.eye(3, 6)[labels] + spread * np.random.default_rng(seed).normal(size=(count, 6)) + 1
    )
    return vectors.astype(np.float32), [
        f"{CLASSES[label]}/{i}.jpg" for i, label in enumerate(labels)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scores")


def write(
    write_table: WriteTable, path: Path, spread: float, count: int = 60, **changes: object
) -> Path:
    vectors, names = rows(count, spread)
    return write_table(path, vectors, names, **changes)


def test_a_table_is_measured_and_its_scores_file_says_what_of(
    write_table: WriteTable, tmp_path: Path
) -> None:
    table = write(write_table, tmp_path / "good.parquet", 0.5)
    (found,) = pauc_hub.evaluate([], table, quiet=True)
    assert found.output == tmp_path / "good.scores.json"
    scores = found.file.scores
    assert set(scores) == {"linear", "knn", "lowshot", "clustering", "geometry"}
    assert set(scores["clustering"]) == {"nmi", "ami", "ari", "accuracy"}
    assert set(scores["geometry"]) == {"uniformity", "correlation", "effective_rank", "intra_share"}
    for evaluation in ("linear", "knn", "lowshot", "clustering", "geometry"):
        for score in scores[evaluation].values():
            assert score["low"] <= score["value"] <= score["high"]
    assert found.file.left_out == {
        "alignment": "needs the images, and 0 of 60 are still in '/nowhere/photos'"
    }

    read = read_scores(found.output)
    assert read.scores == json.loads(json.dumps(scores))
    said = read.predictions
    assert said["path"] == [f"{CLASSES[i % 3]}/{i}.jpg" for i in range(60)]
    right = np.mean(
        [a == b for a, b in zip(said["linear"]["predicted"], said["label"], strict=True)]
    )
    assert right == pytest.approx(scores["linear"]["top1"]["value"])
    # which is the probe's own score
    report = pauc_hub.probe(table, quiet=True)
    assert report.findings.scores is not None
    assert report.findings.scores.totals["top1"].value == pytest.approx(right)

    with pytest.raises(OutputExists, match="exists"):
        pauc_hub.evaluate([], table, quiet=True)


def test_a_picture_of_confusion_calibration_and_low_shots(
    write_table: WriteTable, tmp_path: Path
) -> None:
    table = write(write_table, tmp_path / "t.parquet", 0.8)
    (found,) = pauc_hub.evaluate([], table, plot=tmp_path / "t.png", quiet=True)
    with Image.open(tmp_path / "t.png") as picture:
        assert picture.size[0] > 1000
    said = found.file.predictions["linear"]
    counts = confusion(found.file)
    assert counts.sum(axis=1).tolist() == [20, 20, 20]
    assert counts.trace() == round(60 * found.file.scores["linear"]["top1"]["value"])
    assert counts[0, 2] == sum(
        (label, name) == ("ant", "cat")
        for label, name in zip(found.file.predictions["label"], said["predicted"], strict=True)
    )
    rows = zip(
        said["confidence"],
        said["likelihood"],
        said["predicted"],
        found.file.predictions["label"],
        strict=True,
    )
    assert all(
        (sure == likely) if name == label else (sure >= likely)
        for sure, likely, name, label in rows
    )
    with pytest.raises(UsageError, match=r"must end in .png or .svg"):
        pauc_hub.evaluate(
            [], table, output=tmp_path / "other.scores.json", plot=tmp_path / "t.pdf", quiet=True
        )


def test_a_table_takes_no_models(write_table: WriteTable, tmp_path: Path) -> None:
    table = write(write_table, tmp_path / "t.parquet", 0.5)
    with pytest.raises(
        UsageError, match=r"is a table, which a model made already. Leave 'pauc_resnet18' out"
    ):
        pauc_hub.evaluate("pauc_resnet18", table, quiet=True)


def answered(path: Path, right: npt.NDArray[np.bool_], **changes: object) -> Path:
    """A scores file of a network that is right where it is said to be."""
    n = len(right)
    labels = [CLASSES[i % 3] for i in range(n)]
    said = [
        label if hit else CLASSES[(i + 1) % 3]
        for i, (label, hit) in enumerate(zip(labels, right, strict=True))
    ]
    value = {
        "kind": "pauc.scores",
        "format_version": 1,
        "model": {
            "weights_sha256": "ab" * 32,
            "space": "backbone",
            "preprocessing": {},
            "model": path.stem,
        },
        "data": {
            "test": "photos",
            "images": n,
            "classes": list(CLASSES),
            "test_sha256": "1",
            "train_sha256": "1",
        },
        "protocol": {
            "tested_on": "test images",
            "grouped": False,
            "several_labels": False,
            "seed": 0,
        },
        "settings": {},
        "scores": {},
        "intervals": {},
        "left_out": {},
        "unreadable": 0,
        "predictions": {
            "path": [str(i) for i in range(n)],
            "label": labels,
            "group": None,
            "linear": {"predicted": said},
            "cluster": [CLASSES.index(name) for name in said],
        },
    }
    for key, change in changes.items():
        value[key] = {**value[key], **change}  # type: ignore[dict-item]
    path.write_text(json.dumps(value))
    return path


def pick(found: Comparison, measure: str) -> Compared:
    return next(each for each in found.scores if each.measure == measure)


def hits(n: int, wrong: slice) -> npt.NDArray[np.bool_]:
    right = np.ones(n, np.bool_)
    right[wrong] = False
    return right


def test_flips_and_accuracy(tmp_path: Path) -> None:
    first = answered(tmp_path / "a.json", hits(300, slice(0, 40)))
    second = answered(tmp_path / "b.json", hits(300, slice(30, 45)))
    found = pauc_hub.compare(first, second)
    flips = found.flips["linear"]
    assert (flips.both, flips.first_only, flips.second_only, flips.neither) == (255, 5, 30, 10)
    top1 = pick(found, "top1")
    assert top1.difference.value == pytest.approx(25 / 300)
    assert top1.verdict == "better_beyond_margin"
    exact = binomtest(5, 35).pvalue
    assert top1.difference.p_value is not None
    assert 0 < top1.difference.p_value < exact
    # with this order of images, classes are hit alike
    assert pick(found, "mean_per_class").difference.value == pytest.approx(25 / 300, abs=0.02)
    assert pick(found, "ari").difference.value > 0
    # A and B exchanged
    mirrored = pick(pauc_hub.compare(second, first), "top1")
    assert mirrored.difference.interval == pytest.approx(
        [-end for end in reversed(top1.difference.interval)]
    )


def test_the_order_of_the_images_does_not_matter(tmp_path: Path) -> None:
    right = np.random.default_rng(0).random(90) < 0.7
    first = answered(tmp_path / "a.json", right)
    value = json.loads(first.read_text())
    said = value["predictions"]
    for column in ("path", "label", "cluster"):
        said[column].reverse()
    said["linear"]["predicted"].reverse()
    second = tmp_path / "b.json"
    second.write_text(json.dumps(value))
    found = pauc_hub.compare(first, second)
    assert found.flips["linear"].first_only == found.flips["linear"].second_only == 0
    assert pick(found, "nmi").difference.value == 0


def test_equal_networks_are_equivalent_with_enough_images(tmp_path: Path) -> None:
    few, many = (answered(tmp_path / f"{n}.json", hits(n, slice(0, 5))) for n in (60, 900))
    assert pick(pauc_hub.compare(few, few), "top1").verdict == "not_told_apart"
    assert pick(pauc_hub.compare(many, many), "top1").verdict == "equivalent"
    assert pick(pauc_hub.compare(few, few, margin=0.1), "top1").verdict == "equivalent"


def test_groups_count_and_not_their_images(tmp_path: Path) -> None:
    first_right, second_right = hits(240, slice(0, 60)), hits(240, slice(0, 20))
    groups = [str(i // 40) for i in range(240)]
    alone = pauc_hub.compare(
        answered(tmp_path / "a.json", first_right), answered(tmp_path / "b.json", second_right)
    )
    assert pick(alone, "top1").verdict == "better_beyond_margin"
    files = []
    for name, right in (("c", first_right), ("d", second_right)):
        plain = json.loads(answered(tmp_path / f"{name}.json", right).read_text())
        plain["predictions"]["group"] = groups
        (tmp_path / f"{name}.json").write_text(json.dumps(plain))
        files.append(tmp_path / f"{name}.json")
    found = pauc_hub.compare(*files)
    top1 = pick(found, "top1")
    assert found.groups == 6
    # two groups alone differ, both for B: of the four ways to exchange them, two are as extreme
    assert top1.difference.p_value == 0.5
    assert top1.verdict != "better_beyond_margin"
    assert "over groups" in top1.difference.method


def test_lists_of_labels_are_compared_by_precision(write_table: WriteTable, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    there = rng.random((80, 3)) < 0.4
    there[:3] = np.eye(3)
    names = [f"{i}.jpg" for i in range(80)]
    lists = [[name for name, known in zip(CLASSES, row, strict=True) if known] for row in there]
    columns = {"path": names, "label": lists, "video": [str(i // 10) for i in range(80)]}
    pq.write_table(pa.table(columns), tmp_path / "labels.parquet")
    outputs = []
    for name, spread in (("bad", 2.0), ("good", 0.4)):
        vectors = 2 * there @ np.eye(3, 6) + spread * rng.normal(size=(80, 6))
        table = write_table(
            tmp_path / f"{name}.parquet", vectors.astype(np.float32), names, weights_sha256=name
        )
        (found,) = pauc_hub.evaluate(
            [], table, labels=tmp_path / "labels.parquet", group="video", quiet=True
        )
        assert {"knn", "lowshot", "clustering"} <= set(found.file.left_out)
        outputs.append(found)
    compared = pauc_hub.compare(outputs[0].output, outputs[1].output)
    (score,) = compared.scores
    assert (score.evaluation, score.measure) == ("linear", "map")
    for value, each in ((score.first, outputs[0]), (score.second, outputs[1])):
        assert value == pytest.approx(each.file.scores["linear"]["map"]["value"], abs=1e-4)
    assert score.verdict == "better_beyond_margin"
    # the two of 256 exchanges that are as extreme
    assert score.difference.p_value == 2 / 256


def test_refusals(tmp_path: Path) -> None:
    right = hits(30, slice(0, 5))
    first = answered(tmp_path / "a.json", right)
    other = answered(tmp_path / "b.json", right, data={"test_sha256": "2"})
    with pytest.raises(
        UsageError, match=r"different test images or labels \(30 images of 'photos' and"
    ):
        pauc_hub.compare(first, other)
    other = answered(tmp_path / "b.json", right, protocol={"seed": 1})
    with pytest.raises(
        UsageError, match=r"different protocols: seed is 0 and 1. Evaluate both models alike"
    ):
        pauc_hub.compare(first, other)
    with pytest.raises(UsageError, match="margin=1 must lie between 0 and 1"):
        pauc_hub.compare(first, first, margin=1)
    (tmp_path / "c.json").write_text("[1]")
    with pytest.raises(ArtefactError, match="is no scores file"):
        pauc_hub.compare(first, tmp_path / "c.json")
    with pytest.raises(ArtefactError, match="there is no"):
        pauc_hub.compare(first, tmp_path / "d.json")


def test_the_commands(
    write_table: WriteTable, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    good = write(write_table, tmp_path / "good.parquet", 0.4, weights_sha256="a" * 64, model="good")
    bad = write(write_table, tmp_path / "bad.parquet", 3.0, weights_sha256="b" * 64, model="bad")
    assert run(["eval", str(good)]) == 0
    printed = capfd.readouterr().out
    assert "60 images, 3 classes, 5 folds" in printed
    assert "linear probe" in printed
    assert "\n    top-1" in printed
    assert "Left out: alignment: needs the images, and 0 of 60 are still in" in printed
    assert run(["eval", str(bad), "--json"]) == 0
    value = json.loads(capfd.readouterr().out)
    assert value[0]["scores"]["geometry"].keys() >= {"effective_rank"}
    assert "predictions" not in value[0]

    assert (
        run(["compare", str(tmp_path / "bad.scores.json"), str(tmp_path / "good.scores.json")]) == 0
    )
    printed = capfd.readouterr().out
    assert "linear probe top-1: B is better, beyond the margin of 1 point" in printed
    assert "low-shot SVM 4 a class" in printed
    assert "This compares two networks, not two methods of training." in printed
    assert "A right" in printed
    assert run(["compare", str(tmp_path / "bad.scores.json"), str(good)]) == 1
    assert capfd.readouterr().err.startswith("error: ")
    assert run(["eval", str(good), "--labels", "nowhere.csv", "--overwrite"]) == 2
