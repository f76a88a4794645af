"""The plan's rows can be trained, what is done is not done again, and the page says what the runs
say.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import ablation
import numpy as np
import pytest
import results_page
from ablation_plan import ROWS, Row, Run, config_of, runs
from labelled_splits import Split

import pauc_hub

CIFAR = 50_000


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_can_be_trained(row: Row) -> None:
    config = config_of(Run(row, 1), CIFAR, {"lr": 0.12})
    assert (config.architecture, config.size, config.epochs, config.seed, config.lr) == (
        "resnet18",
        32,
        50,
        1,
        0.12,
    )
    assert config.small_views == 0


def test_rows_differ_from_each_other() -> None:
    assert len({config_of(Run(row, 0), CIFAR, {}) for row in ROWS}) == len(ROWS)


def test_controls_are_what_they_are_called() -> None:
    rows = {row.name: config_of(Run(row, 0), CIFAR, {}) for row in ROWS}
    assert rows["control_shuffled"].shuffle_assignments
    assert (
        max(rows["control_few_clusters"].clusters or ())
        <= rows["control_few_clusters"].batch_size / 5
    )
    infonce = rows["infonce"]
    assert (
        infonce.weight_proto
        == infonce.weight_align
        == infonce.weight_unif
        == infonce.weight_corr
        == 0
    )
    assert rows["pauc_bank"].prototypes_from == "bank"


def test_headlines_come_first_with_all_their_seeds() -> None:
    keys = [run.key for run in runs()]
    assert sorted(keys[:9]) == sorted(
        f"{name}-seed{s}" for name in ("infonce", "protonce", "pauc") for s in range(3)
    )
    assert len(keys) == len(set(keys)) == 9 + len(ROWS) - 3
    assert [run.key for run in runs(["pauc", "scatter"], 2)] == [
        "pauc-seed0",
        "pauc-seed1",
        "scatter-seed0",
    ]


def test_what_is_done_is_neither_trained_nor_scored_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = Split([b""] * 1000, np.zeros(1000, np.int64))
    trained: list[str] = []
    monkeypatch.setattr(ablation, "read_rows", lambda _: splits)
    monkeypatch.setattr(ablation, "learn", lambda run, *_: trained.append(run.key))
    monkeypatch.setattr(pauc_hub, "load", lambda *_, **__: None)
    monkeypatch.setattr(
        ablation, "receipts", lambda run, *_: {"row": run.row.name, "seed": run.seed}
    )
    monkeypatch.setattr(ablation, "scores", lambda *_: {"knn": 51.2345, "linear": 60.0})
    arguments = argparse.Namespace(
        train=Path("train.parquet"),
        test=Path("test.parquet"),
        output=tmp_path,
        result=tmp_path / "result.json",
        rows=["infonce"],
        seeds=1,
        device="cpu",
    )
    ablation.carry_out(arguments, {})
    assert trained == ["infonce-seed0"]
    arguments.seeds = 2
    ablation.carry_out(arguments, {})
    assert trained == ["infonce-seed0", "infonce-seed1"]
    written = json.loads(arguments.result.read_text())
    assert written["runs"]["infonce-seed0"]["knn"] == 51.23
    with pytest.raises(SystemExit, match="other images or settings"):
        ablation.carry_out(arguments, {"lr": 0.1})


def made_up(row: str, seed: int, knn: float, right: list[int]) -> dict[str, Any]:
    curve = {"epochs": [2, 3], "values": [0.5, 0.4 + seed / 10]}
    return {
        "row": row,
        "about": f"about {row}",
        "seed": seed,
        "knn": knn,
        "linear": knn + 5,
        "cluster_accuracy": 20.0,
        "cluster_nmi": 15.0,
        "effective_rank": 30.0,
        "intra_share": 0.25,
        "minutes": 12.0,
        "low_shot": {"1": 10.0, "2": 12.0},
        "knn_right": np.packbits(right).tobytes().hex(),
        "curves": {"intra_share": curve, "effective_rank": curve},
        "commit": "abc1234",
        "hardware": {"name": "Some Processor", "cores": 2},
    }


RESULT = {
    "about": {
        "training split": {"name": "made-up-train.parquet", "images": 1000},
        "test split": {"name": "made-up-test.parquet", "images": 10},
        "settings": {"architecture": "resnet18", "size": 32, "epochs": 3, "batch_size": 64},
        "protocols": {"knn": "weighted"},
    },
    "runs": {
        "pauc-seed0": made_up("pauc", 0, 52.0, [1, 1, 1, 1, 0, 0, 0, 0, 1, 1]),
        "pauc-seed1": made_up("pauc", 1, 53.0, [0] * 10),
        "protonce-seed0": made_up("protonce", 0, 51.0, [1, 1, 0, 0, 1, 0, 0, 0, 0, 1]),
        "protonce-seed1": made_up("protonce", 1, 51.0, [0] * 10),
        "scatter-seed0": made_up("scatter", 0, 50.0, [0] * 10),
    },
}


def test_methods_are_compared_by_seed() -> None:
    rows = results_page.of_rows(RESULT)
    # differences 1 and 2: mean 1.5, deviation sqrt(1/2)
    assert results_page.paired(rows["pauc"], rows["protonce"], "knn") == pytest.approx(
        (1.5, 12.706 * 0.5, 2)
    )
    assert results_page.paired(rows["pauc"], rows["scatter"], "knn") is None


def test_networks_are_compared_by_images() -> None:
    rows = results_page.of_rows(RESULT)
    # 3 images gained, 1 lost, of 10
    found = results_page.by_images(rows["pauc"][0], rows["protonce"][0], 10)
    assert found.value == pytest.approx(0.2)
    assert found.interval[0] < 0 < found.interval[1]


def test_the_page_says_what_the_runs_say() -> None:
    text = results_page.page(RESULT)
    assert "**This is no published setting**" in text
    assert "| `pauc`: about pauc | 2 | 52.5 ± 0.7 | 57.5 ± 0.7 |" in text
    assert "| `scatter`: about scatter | 1 | 50.0 | 55.0 |" in text
    assert "| pauc − protonce | 2 | +1.50 ± 6.35 |" in text
    assert "| pauc − protonce | +20.00 | " in text
    assert "This compares two networks" in text
    assert "infonce" not in text


def test_the_figure_shows_the_headlines(tmp_path: Path) -> None:
    results_page.draw(RESULT, tmp_path / "a.svg")
    results_page.draw(RESULT, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert "protonce" in (tmp_path / "a.svg").read_text()


def test_no_page_without_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_page, "RESULTS", tmp_path)
    with pytest.raises(SystemExit, match=r"ablation\.py writes it"):
        results_page.main()
