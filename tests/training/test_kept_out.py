"""Images that are kept out of training: which, how many, that nothing learns from them, and what
they calibrate.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from pauc_hub.answers.assign import assign
from pauc_hub.clustering.kmeans import kmeans
from pauc_hub.clustering.prototypes import Prototypes, describe_clusters
from pauc_hub.errors import Interrupted
from pauc_hub.images.reading import Reading
from pauc_hub.models.folder import open_folder
from pauc_hub.sources.by_index import ImageSource
from pauc_hub.sources.datasets import open_images
from pauc_hub.training import calibration, loop
from pauc_hub.training.calibration import calibrate_clusterings
from pauc_hub.training.config import Config
from pauc_hub.training.data import Views
from pauc_hub.training.data.kept_out import keep_out
from pauc_hub.training.derived import images_kept_out
from pauc_hub.training.loop import train
from pauc_hub.training.run import run_folder
from pauc_hub.training.settings import read_saved
from pauc_hub.training.state import Training, take_step

IMAGES = 110
KEPT = 44
CONFIG = Config(
    architecture="test_resnet",
    size=32,
    dim=8,
    epochs=2,
    batch_size=64,
    norm_group=32,
    queue=64,
    clusters=(2, 4),
    kmeans="torch",
    precision="fp32",
    kept_out=0.4,
)


def named(count: int) -> ImageSource:
    def picture(index: int, reading: Reading) -> Image.Image:
        raise AssertionError(f"image {index} is read ({reading})")

    return ImageSource("photos", [f"{i:05}" for i in range(count)], picture)


@pytest.mark.parametrize(
    ("images", "share", "expected"),
    [
        (4000, 0.01, 40),
        (3999, 0.01, 0),
        (50_000, 0.01, 500),
        (1_281_167, 0.01, 2000),
        (100, 0.4, 40),
        (50_000, 0.0, 0),
        (50_000, 7.0, 0),
        (50_000, float("nan"), 0),
    ],
)
def test_how_many_are_kept_out(images: int, share: float, expected: int) -> None:
    assert images_kept_out(images, share) == expected


def test_each_image_is_on_one_side_and_the_seed_decides_on_which() -> None:
    learnt, kept = keep_out(named(4321), Config())
    assert (len(learnt), len(kept)) == (4278, 43)
    assert sorted([*learnt.names, *kept.names]) == named(4321).names
    assert learnt.names == sorted(learnt.names)
    # in no order, and from everywhere
    assert kept.names != sorted(kept.names)
    assert min(map(int, kept.names)) < 500 < 3800 < max(map(int, kept.names))
    assert keep_out(named(4321), Config())[1].names == kept.names
    assert keep_out(named(4321), Config(seed=1))[1].names != kept.names


def test_too_few_are_all_trained_on() -> None:
    learnt, kept = keep_out(named(3999), Config())
    assert (len(learnt), len(kept)) == (3999, 0)


def test_settings_follow_from_the_images_that_are_trained_on() -> None:
    settled = Config(size=32, kept_out=0.1).resolve(50_000)
    assert settled.clusters == (960, 1920, 3840)
    with pytest.raises(Exception, match=r"kept_out=0\.6 must lie in \[0, 0\.5\]"):
        Config(size=32, kept_out=0.6).resolve(50_000)


def test_runs_of_versions_before_keep_none_out(tmp_path: Path) -> None:
    saved = Config().to_json()
    del saved["kept_out"]
    (tmp_path / "config.json").write_text(json.dumps(saved))
    assert read_saved(tmp_path / "config.json").kept_out == 0
    (tmp_path / "config.json").write_text(json.dumps(saved | {"kept_out": 0.02}))
    assert read_saved(tmp_path / "config.json").kept_out == 0.02


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, draws = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for i in range(IMAGES):
        coarse = draws.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((32, 32)).save(folder / f"{i:03}.png")
    return folder


@pytest.fixture(scope="module")
def trained(images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """The model folder of a run, and the images that its steps learnt from."""
    seen: set[str] = set()

    def noted(state: Training, batch: Views) -> dict[str, Tensor]:
        seen.update(state.source.names[index] for index in batch.index.tolist())
        return take_step(state, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "take_step", noted)
        model = train(images, tmp_path_factory.mktemp("kept") / "run", CONFIG, quiet=True)
    return model, seen


def test_nothing_learns_from_them(images: Path, trained: tuple[Path, set[str]]) -> None:
    model, seen = trained
    kept = {f"{i:03}.png" for i in range(IMAGES)} - seen
    assert len(seen) <= IMAGES - KEPT
    folder = open_folder(model)
    data = folder.facts["data"]
    assert (data["images"], data["kept_out"]) == (IMAGES - KEPT, KEPT)
    assert [int(level.sizes.sum()) for level in folder.read_prototypes()] == [IMAGES - KEPT] * 2
    assert kept >= {*keep_out(open_images(images), CONFIG)[1].names}


def test_the_model_is_calibrated_on_them(
    trained: tuple[Path, set[str]], images: Path, tmp_path: Path
) -> None:
    folder = open_folder(trained[0])
    found = folder.read_calibration()
    assert found is not None
    assert (len(found.scores), found.reclusterings) == (KEPT // 2, 10)
    assert found.scores.dtype == torch.float32
    assert len(found.temperatures) == len(found.errors) == 2
    assert (
        "44 more were kept out to calibrate the prototypes"
        in (trained[0] / "README.md").read_text()
    )
    answer = assign(
        images,
        model=trained[0],
        output=tmp_path / "a.parquet",
        table=tmp_path / "t.parquet",
        quiet=True,
    )
    assert answer.outliers is not None
    columns = pq.read_table(answer.output).to_pydict()
    for k in answer.prototypes.granularities:
        assert all(0 < confidence <= 1 for confidence in columns[f"confidence_{k}"])
    assert columns["outlier"] == [
        score > found.threshold(0.05) for score in columns["outlier_score"]
    ]


def test_stopped_while_it_calibrates_a_run_goes_on_to_the_same_model(
    images: Path, trained: tuple[Path, set[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*given: Any, **options: Any) -> Tensor:
        raise Interrupted("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(calibration, "matched_again", stopped)
        with pytest.raises(Interrupted):
            train(images, tmp_path / "run", CONFIG, quiet=True)
    assert not (tmp_path / "run" / run_folder.MODEL).exists()
    model = train(images, tmp_path / "run", resume=True, quiet=True)
    name = "prototypes.safetensors"
    assert (model / name).read_bytes() == (trained[0] / name).read_bytes()


def test_one_that_cannot_be_read_is_listed_and_too_few_that_can_calibrate_nothing(
    images: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "images"
    broken.mkdir()
    for file in images.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    _, kept = keep_out(open_images(broken), CONFIG)
    for name in kept.names[:5]:
        (broken / name).write_text("broken")
    model = train(broken, tmp_path / "run", dataclasses.replace(CONFIG, epochs=1), quiet=True)
    listed = (tmp_path / "run" / run_folder.UNREADABLE).read_text().splitlines()
    assert sorted(line.partition("\t")[0] for line in listed) == sorted(kept.names[:5])
    # 39 are left
    assert open_folder(model).read_calibration() is None


@pytest.fixture
def clustered() -> Callable[[float], tuple[Tensor, Tensor, list[Prototypes]]]:
    """Points about four directions, others that are kept out, and two clusterings of the first."""

    def make(spread: float) -> tuple[Tensor, Tensor, list[Prototypes]]:
        draws = torch.Generator().manual_seed(0)
        rows = torch.eye(8)[torch.arange(480) % 4] + spread * torch.randn(480, 8, generator=draws)
        rows = F.normalize(rows, dim=1)[torch.randperm(480, generator=draws)]
        points, kept = rows[:400], rows[400:]
        found = [kmeans(points, k, backend="torch", restarts=5) for k in (2, 4)]
        return points, kept, [describe_clusters(points, each, 0.2)[0] for each in found]

    return make


def test_where_clusters_are_plain_confidence_is_high_and_where_there_are_none_it_is_low(
    clustered: Callable[[float], tuple[Tensor, Tensor, list[Prototypes]]],
) -> None:
    plain = calibrate_clusterings(*clustered(0.02), seed=0)
    none = calibrate_clusterings(*clustered(3.0), seed=0)
    # of a lower temperature come higher confidences
    assert plain.temperatures[1] < 0.2 * none.temperatures[1]
    assert plain.errors[1] < 0.1
    assert max(*plain.errors, *none.errors) < 0.25
    # the images that are kept out are like the others
    assert plain.flagged <= 0.2
