"""`pauc verify --scores`: which scores on a card come out again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pauc_hub
from pauc_hub.answers.measures import Asked
from pauc_hub.answers.verify import check_scores
from pauc_hub.cli import run
from pauc_hub.cli.verify import as_lines
from pauc_hub.errors import TableError, UsageError
from pauc_hub.files.checksums import SUMS, format_sums
from pauc_hub.hub.verify import ScoreCheck
from pauc_hub.models.card import score_section
from pauc_hub.models.folder import open_folder

WriteTable = Callable[..., Path]
KNN = "weighted kNN, k = 200, T = 0.1, cosine"


@pytest.fixture
def splits(write_table: WriteTable, tmp_path: Path) -> tuple[Path, Path]:
    """Tables of 300 training and 40 test images of two classes, which 512 numbers tell apart now
    and then.
    """

    def write(name: str, count: int, seed: int) -> Path:
        labels = np.arange(count) % 2
        vectors = 0.5 * np.eye(2, 16)[labels] + np.random.default_rng(seed).normal(size=(count, 16))
        paths = [f"{'ab'[label]}/{name}-{i}.jpg" for i, label in enumerate(labels)]
        return write_table(tmp_path / f"{name}.parquet", vectors.astype(np.float32), paths)

    return write("train", 300, 0), write("test", 40, 1)


def score(value: float, **changes: Any) -> dict[str, Any]:
    told = {"protocol": KNN, "metric": "top-1 %", "space": "backbone", "seed": 0}
    return told | {"bank": "Some train, 300", "queries": "Some val, 40", "value": value} | changes


def verdicts(splits: tuple[Path, Path], *told: dict[str, Any]) -> list[bool | None]:
    return [check.holds for check in check_scores(told, None, Asked(*splits, quiet=True))]


def test_a_score_holds_where_it_comes_out_again(splits: tuple[Path, Path]) -> None:
    asked = Asked(*splits, quiet=True)
    (found,) = check_scores([score(0.0)], None, asked)
    assert found.holds is False
    value = found.found
    assert value is not None
    assert 50 < value < 100
    one = 100 / 40
    assert verdicts(splits, score(value), score(value + one), score(value - 1.1 * one)) == [
        True,
        True,
        False,
    ]


def test_what_is_about_other_images_is_not_measured(splits: tuple[Path, Path]) -> None:
    told = [
        score(70.0, queries="Some val, 41"),
        score(70.0, bank_sha256="1", queries_sha256="2"),
        score(70.0, protocol="fine-tuning"),
        score(70.0, protocol=KNN.replace("200", "20")),
    ]
    checks = list(check_scores(told, None, Asked(*splits, quiet=True)))
    assert [check.holds for check in checks] == [None] * 4
    assert (
        checks[0].reason
        == "it is about Some train, 300 and Some val, 41; given are 300 training and 40 test images"
    )
    assert checks[1].reason.endswith(
        "given are 300 training and 40 test images, of other paths or labels"
    )
    assert checks[2].reason == "its protocol is none of `pauc eval`"
    assert checks[3].reason == "`pauc eval` does not measure it here"


def test_reasons_are_said_once() -> None:
    unmeasured = [
        ScoreCheck("kNN", "top-1 %", "val, 40", 1.0, None, 0.0, reason)
        for reason in ("a", "b", "b")
    ]
    held = ScoreCheck("kNN", "top-1 %", "val, 40", 50.0, 50.0, 0.05)
    assert as_lines([unmeasured[1], held, unmeasured[0], unmeasured[2]]) == [
        "  holds         kNN, top-1 %, val, 40: 50 on the card, 50 now",
        "  not measured  2 scores, of each of which: b",
        "  not measured  kNN, top-1 %, val, 40: a",
    ]


@pytest.fixture
def carded(model_folder: Path, tmp_path: Path) -> Callable[[list[dict[str, Any]]], Path]:
    """The model, with scores in its facts and, as it must be, in its card."""

    def make(scores: list[dict[str, Any]]) -> Path:
        folder = tmp_path / "carded"
        shutil.copytree(model_folder, folder)
        facts = open_folder(folder).facts | {"scores": scores}
        (folder / "facts.json").write_text(json.dumps(facts))
        (folder / "README.md").write_text(score_section(facts))
        files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != SUMS}
        (folder / SUMS).write_bytes(format_sums(files))
        return folder

    return make


def test_the_command_says_which_hold(
    splits: tuple[Path, Path],
    carded: Callable[[list[dict[str, Any]]], Path],
    write_table: WriteTable,
    capfd: pytest.CaptureFixture[str],
) -> None:
    told = [score(each, command="pauc eval", random=4.0, resolution=64) for each in (0.0, 100.0)]
    folder = carded([*told, score(1.0, command="pauc eval", protocol="fine-tuning")])
    words = ["verify", str(folder), "--scores", str(splits[0]), "--test", str(splits[1])]
    assert run(words) == 1
    assert "was made by net" in capfd.readouterr().err
    # tables of this model
    sha = open_folder(folder).weights_sha256
    mine = [rewritten(table, write_table, sha) for table in splits]
    words = ["verify", str(folder), "--scores", str(mine[0]), "--test", str(mine[1])]
    assert run([*words, "--json"]) == 1
    found = json.loads(capfd.readouterr().out)["scores"]
    assert [each["holds"] for each in found] == [False, False, None]
    assert run(words) == 1
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith("tiny: holds: ")
    assert lines[1].startswith(
        f"  differs       {KNN}, top-1 %, Some val, 40: 0 on the card, {found[0]['found']:g} now, "
    )
    assert lines[3].startswith("  not measured  fine-tuning")


def rewritten(table: Path, write_table: WriteTable, sha: str) -> Path:
    read = pauc_hub.read_table(table)
    return write_table(
        table.with_stem(f"mine-{table.stem}"), read.embeddings, read.paths, weights_sha256=sha
    )


def test_a_card_without_scores_has_none_to_measure(
    model_folder: Path, splits: tuple[Path, Path]
) -> None:
    with pytest.raises(
        UsageError, match=r"has no scores on its card\. `pauc eval MODEL IMAGES --into-card`"
    ):
        pauc_hub.verify(model_folder, scores=splits[0], quiet=True)


def test_tables_of_other_weights_are_refused(
    splits: tuple[Path, Path], carded: Callable[[list[dict[str, Any]]], Path]
) -> None:
    folder = carded([score(1.0, command="pauc eval", resolution=64)])
    with pytest.raises(TableError, match="was made by net"):
        pauc_hub.verify(folder, scores=splits[0], test=splits[1], quiet=True)
