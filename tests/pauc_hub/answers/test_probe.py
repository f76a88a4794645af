"""Probes from tables: what is scored and written, leakage, groups, and what is refused before any
fit.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pauc_hub
from pauc_hub.answers.probe_file import read_probe
from pauc_hub.errors import (
    ArtefactError,
    OriginMismatch,
    OutputExists,
    PaucError,
    TableError,
    UsageError,
)
from pauc_hub.tables.outputs import open_output
from pauc_hub.tables.table import Provenance

ABOUT = Provenance("m", "0" * 64, "backbone", {}, "fp32", "/photos", "0")
CLASSES = ("ant", "bee", "cat")


def write(
    path: Path, names: list[str], vectors: npt.NDArray[np.floating], about: Provenance = ABOUT
) -> Path:
    with open_output(path, vectors.shape[1], len(names), about) as table:
        table.write(names, vectors.astype(np.float32), np.ones((len(names), 2), np.int32))
    return path


def clusters(
    rows: int, seed: int, spread: float = 0.5
) -> tuple[list[str], npt.NDArray[np.float64]]:
    """Rows of three classes in turn, with names `CLASS/NUMBER.jpg`."""
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % 3
    vectors = 2 * np.eye(3, 6)[labels] + spread * rng.normal(size=(rows, 6)) + 1
    return [f"{CLASSES[label]}/{seed}-{i}.jpg" for i, label in enumerate(labels)], vectors


@pytest.fixture
def train(tmp_path: Path) -> Path:
    return write(tmp_path / "train.parquet", *clusters(90, 0))


@pytest.fixture
def test(tmp_path: Path) -> Path:
    return write(tmp_path / "test.parquet", *clusters(45, 1))


def test_a_probe_is_scored_written_and_used(train: Path, test: Path, tmp_path: Path) -> None:
    output = tmp_path / "animals.probe.safetensors"
    report = pauc_hub.probe(train, test, output=output, quiet=True)
    scores = report.findings.scores
    assert scores is not None
    assert report.classes == list(CLASSES)
    assert scores.totals["top1"].value > 0.9
    assert scores.totals["top1"].low <= scores.totals["top1"].value <= scores.totals["top1"].high
    assert [each.images for each in scores.classes] == [15, 15, 15]
    assert report.copies == []

    probe = read_probe(output)
    assert probe.origin == ABOUT.origin
    assert probe.report["scores"]["top1"]["value"] == scores.totals["top1"].value
    found = pauc_hub.predict(test, output, quiet=True)
    assert found.rows["path"].to_pylist() == clusters(45, 1)[0]
    right = [row["class"] == row["path"].partition("/")[0] for row in found.rows.to_pylist()]
    assert np.mean(right) == pytest.approx(scores.totals["top1"].value)
    first = found.rows.to_pylist()[0]
    assert first["second_class"] != first["class"]
    assert 1 >= first["probability"] >= first["second_probability"] >= 0
    assert found.calibration_error == report.findings.reliability.error  # type: ignore[union-attr]
    assert sum(found.counts.values()) == 45


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_predictions_go_to_a_file(suffix: str, train: Path, test: Path, tmp_path: Path) -> None:
    pauc_hub.probe(train, test, output=tmp_path / "p.safetensors", quiet=True)
    output = tmp_path / f"out{suffix}"
    shown = pauc_hub.predict(test, tmp_path / "p.safetensors", quiet=True)
    written = pauc_hub.predict(test, tmp_path / "p.safetensors", output=output, quiet=True)
    assert written.rows.num_rows == 0
    table = pq.read_table(output) if suffix == ".parquet" else pa.csv.read_csv(output)
    assert table["class"].to_pylist() == shown.rows["class"].to_pylist()
    with pytest.raises(OutputExists, match="exists"):
        pauc_hub.predict(test, tmp_path / "p.safetensors", output=output, quiet=True)


def test_without_test_images_folds_are_predicted(train: Path) -> None:
    report = pauc_hub.probe(train, quiet=True)
    assert report.test is None
    assert report.findings.scores is not None
    assert report.findings.scores.images == 90
    assert "had not seen it" in report.findings.covers


def test_leaked_images_are_found_and_scores_given_without_them(tmp_path: Path) -> None:
    """Labels are random, so that copies alone are recognised."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 80))
    names = [f"{'ab'[label]}/{i}.jpg" for i, label in enumerate(rng.integers(0, 2, 60))]
    train = write(tmp_path / "train.parquet", names, vectors)
    own = rng.normal(size=(40, 80))
    own[:20] = vectors[:20] + 0.01 * own[:20]
    others = [
        *(f"{name[0]}/copy-{name[2:]}" for name in names[:20]),
        *(f"{'ab'[i % 2]}/own-{i}.jpg" for i in range(20)),
    ]
    report = pauc_hub.probe(train, write(tmp_path / "test.parquet", others, own), quiet=True)
    assert [pair[0] for pair in report.copies] == others[:20]
    assert report.copies[3] == (others[3], names[3])
    with_them, without = report.findings.scores, report.findings.without_copies
    assert with_them is not None
    assert without is not None
    assert (with_them.images, without.images) == (40, 20)
    assert with_them.totals["top1"].value > without.totals["top1"].value + 0.1
    assert report.to_dict()["scores_without_copies"]["images"] == 20


def test_groups_are_resampled_whole_and_shared_ones_are_told(
    train: Path, test: Path, tmp_path: Path
) -> None:
    names = [*clusters(90, 0)[0], *clusters(45, 1)[0]]
    rows = [f"{name},{name.partition('/')[0]},v{i % 9}" for i, name in enumerate(names)]
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label,video\n" + "\n".join(rows))
    report = pauc_hub.probe(train, test, labels=labels, group="video", quiet=True)
    assert report.findings.scores is not None
    assert report.findings.scores.groups == 9
    assert "9 groups of 45 test images" in report.findings.covers
    assert any(
        note.startswith("9 groups have images in both training and test") for note in report.notes
    )


def test_folders_of_splits_are_training_and_test(tmp_path: Path) -> None:
    names, vectors = clusters(120, 0)
    below = [f"{'Train' if i < 90 else 'val'}/{name}" for i, name in enumerate(names)]
    report = pauc_hub.probe(write(tmp_path / "all.parquet", below, vectors), quiet=True)
    assert (report.train_images, report.test_images) == (90, 30)
    assert report.classes == list(CLASSES)


def test_lists_of_labels_are_scored_by_average_precision(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    several = rng.random((120, 3)) < 0.4
    names = [f"{i}.jpg" for i in range(120)]
    table = write(
        tmp_path / "t.parquet", names, 3 * several @ np.eye(3, 6) + rng.normal(size=(120, 6))
    )
    lists = [[name for name, there in zip(CLASSES, row, strict=True) if there] for row in several]
    pq.write_table(pa.table({"path": names, "label": lists}), tmp_path / "labels.parquet")
    output = tmp_path / "p.safetensors"
    report = pauc_hub.probe(table, labels=tmp_path / "labels.parquet", output=output, quiet=True)
    assert report.findings.scores is not None
    assert report.findings.scores.totals["map"].value > 0.8
    assert set(report.findings.scores.totals) == {"map"}
    rows = pauc_hub.predict(table, output, quiet=True).rows.to_pylist()
    assert np.mean([row["classes"] == given for row, given in zip(rows, lists, strict=True)]) > 0.6


@pytest.mark.parametrize("protocol", ["knn", "lowshot"])
def test_other_protocols_with_and_without_test_images(
    protocol: str, train: Path, test: Path
) -> None:
    for given in (test, None):
        report = pauc_hub.probe(train, given, protocol=protocol, quiet=True)
        found = report.findings
        if protocol == "knn":
            assert found.scores is not None
            assert found.scores.totals["top1"].value > 0.9
        else:
            assert [name for name, _ in found.draws[""].points][-1] == "16 a class"
            assert found.draws[""].points[-1][1].mean > 0.9
        json.dumps(report.to_dict(), allow_nan=False)


def test_a_share_of_the_labels(train: Path, test: Path) -> None:
    points = pauc_hub.probe(train, test, protocol="semi", quiet=True).findings.draws[""].points
    assert [name for name, _ in points] == ["1% (6 images)", "10% (9 images)"]
    assert points[1][1].mean > 0.7


def test_voc07_in_both_conventions(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    several = rng.random((120, 3)) < 0.4
    names = [f"{i}.jpg" for i in range(120)]
    vectors = several @ np.eye(3, 6) + rng.normal(size=(120, 6))
    train = write(tmp_path / "train.parquet", names[:70], vectors[:70])
    test = write(tmp_path / "test.parquet", names[70:], vectors[70:])
    lists = [[name for name, there in zip(CLASSES, row, strict=True) if there] for row in several]
    hard = [["ant"] if i % 7 == 0 else [] for i in range(120)]
    file = tmp_path / "labels.parquet"
    pq.write_table(pa.table({"path": names, "label": lists, "hard": hard}), file)
    plain = pauc_hub.probe(
        train, test, protocol="pcl-voc07", labels=file, quiet=True
    ).findings.draws
    found = pauc_hub.probe(
        train, test, protocol="pcl-voc07", labels=file, difficult="hard", quiet=True
    ).findings.draws
    pcl, vissl = found
    assert plain[pcl].full == plain[vissl].full  # nothing is difficult
    assert found[pcl].full != found[vissl].full
    assert plain[pcl].full != found[pcl].full
    assert [name for name, _ in found[pcl].points] == [
        "1 a class",
        "2 a class",
        "4 a class",
        "8 a class",
        "16 a class",
    ]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["a/1.jpg", *(f"b/{i}.jpg" for i in range(5))],
            "class 'a' has one image in '{0}'; it needs two.",
        ),
        ([f"b/{i}.jpg" for i in range(6)], "all 6 labelled images of '{0}' have the label 'b'"),
        ([f"{i}.jpg" for i in range(6)], "no labels: '0.jpg' and 5 others lie in no folder"),
    ],
)
def test_labels_that_will_not_do_are_refused_in_one_line(
    names: list[str], message: str, tmp_path: Path
) -> None:
    table = write(tmp_path / "t.parquet", names, np.random.default_rng(0).normal(size=(6, 4)))
    with pytest.raises(UsageError) as refusal:
        pauc_hub.probe(table, quiet=True)
    assert message.format(table) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_folders_that_will_not_do_are_refused_before_they_are_embedded(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "b/1.jpg", "b/2.jpg"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(b"no image")
    with pytest.raises(UsageError, match="class 'a' has one image"):
        pauc_hub.probe(tmp_path / "photos", quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_a_group_that_holds_a_whole_class_is_refused(train: Path, tmp_path: Path) -> None:
    rows = [f"{name},{name[0]},{name[0]}" for name in clusters(90, 0)[0]]
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label,video\n" + "\n".join(rows))
    with pytest.raises(
        UsageError,
        match=r"all 30 images of class 'a' in '.*' are in one group \(3 classes are like",
    ):
        pauc_hub.probe(train, labels=labels, group="video", quiet=True)
    labels.write_text("path,label,video\n" + "\n".join(rows[:-1]) + "\n" + rows[-1][:-1])
    with pytest.raises(UsageError, match="1 labelled images have no value in column 'video'"):
        pauc_hub.probe(train, labels=labels, group="video", quiet=True)


def test_tables_that_do_not_go_together_are_refused(train: Path, tmp_path: Path) -> None:
    names, vectors = clusters(30, 1)
    other = write(
        tmp_path / "other.parquet", names, vectors, replace(ABOUT, weights_sha256="1" * 64)
    )
    with pytest.raises(OriginMismatch, match="which differ in weights"):
        pauc_hub.probe(train, other, quiet=True)
    narrow = write(tmp_path / "narrow.parquet", names, vectors[:, :4])
    with pytest.raises(TableError, match=r"has 6 numbers an image and '.*' 4"):
        pauc_hub.probe(train, narrow, quiet=True)
    output = tmp_path / "p.safetensors"
    pauc_hub.probe(train, train, output=output, quiet=True)
    with pytest.raises(OriginMismatch, match=r"p\.safetensors"):
        pauc_hub.predict(other, output, quiet=True)
    with pytest.raises(TableError, match=r"has 4 numbers an image, and probe '.*' takes 6"):
        pauc_hub.predict(narrow, output, quiet=True)
    strange = write(
        tmp_path / "strange.parquet", ["dog/1.jpg", "dog/2.jpg", "ant/3.jpg"], vectors[:3]
    )
    with pytest.raises(
        UsageError,
        match=r"has 2 images of class 'dog', which '.*' lacks. Its classes are ant, bee, cat",
    ):
        pauc_hub.probe(train, strange, quiet=True)


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    names, vectors = clusters(30, 0)
    vectors[4, 2] = np.nan
    with pytest.raises(PaucError, match=f"NaN or infinity in the embedding of '{names[4]}'"):
        pauc_hub.probe(write(tmp_path / "t.parquet", names, vectors), quiet=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "svm"}, "unknown protocol 'svm'"),
        ({"protocol": "semi"}, "protocol=semi needs test images"),
        ({"protocol": "pcl-voc07"}, "protocol=pcl-voc07 needs a list of labels"),
        ({"protocol": "knn", "output": "p.safetensors"}, "protocol=knn makes no probe file"),
        ({"output": "p.npy"}, "must end in .safetensors"),
        ({"labels": "nowhere.csv"}, "labels 'nowhere.csv' cannot be read"),
        ({"group": "video"}, "the images have no column 'video'"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: dict[str, str], message: str, train: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        pauc_hub.probe(train, quiet=True, **options)  # type: ignore[arg-type]


def test_a_probe_file_that_is_none_is_refused(train: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="no such file"):
        pauc_hub.predict(train, tmp_path / "p.safetensors", quiet=True)
    (tmp_path / "p.safetensors").write_bytes(b"x" * 20)
    with pytest.raises(ArtefactError, match="damaged"):
        pauc_hub.predict(train, tmp_path / "p.safetensors", quiet=True)


def test_a_table_larger_than_its_share_of_the_memory_is_read_from_disk(
    train: Path, test: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = pauc_hub.probe(train, test, quiet=True)
    for module in ("labelled", "questions"):
        monkeypatch.setattr(f"pauc_hub.answers.{module}.free_memory", lambda: 0)
    mapped = pauc_hub.probe(train, test, quiet=True)
    assert plain.findings.scores is not None
    assert mapped.findings.scores is not None
    assert mapped.findings.scores.totals == plain.findings.scores.totals
