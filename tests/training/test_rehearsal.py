"""A rehearsal foretells how long a run takes, and leaves nothing."""

import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pauc_hub.clustering.kmeans import kmeans
from pauc_hub.errors import TrainingFailed
from pauc_hub.sources.by_index import ImageSource, open_by_index
from pauc_hub.training import expectation_step, loop, machine, rehearsal
from pauc_hub.training.config import Config
from pauc_hub.training.data import Views
from pauc_hub.training.estep import all_features
from pauc_hub.training.loop import train
from pauc_hub.training.rehearsal import rehearse
from pauc_hub.training.run import checkpoint
from pauc_hub.training.state import Training, take_step

IMAGES = 200
CPU = torch.device("cpu")
SETTINGS = Config(
    size=32, batch_size=64, epochs=6, dim=16, precision="fp32", norm_group=32, kmeans="torch"
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ImageSource:
    folder = tmp_path_factory.mktemp("rehearsal") / "photos"
    folder.mkdir()
    for i in range(IMAGES):
        coarse = np.random.default_rng(i).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((40, 40)).save(folder / f"{i:03}.png")
    return open_by_index(folder)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "MOST_STEPS", 3)


def test_the_estimate_is_what_the_run_takes(
    source: ImageSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is the work: a step takes 10 s, the features of an image a tenth, and a checkpoint
    2 s.
    """
    clock = [0.0]

    def taking(seconds: float, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            clock[0] += seconds
            return function(*arguments, **named)

        return call

    def features(
        encoder: Any, loader: Any, device: Any, dtype: Any, size: int, seen: Any, *world: Any
    ) -> Any:
        def seen_after_a_while(images: int) -> None:
            clock[0] += images / 10
            seen(images)

        return all_features(encoder, loader, device, dtype, size, seen_after_a_while, *world)

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    for module in (rehearsal, loop):
        monkeypatch.setattr(module, "take_step", taking(10, take_step))
    for module in (rehearsal, expectation_step):
        monkeypatch.setattr(module, "all_features", features)
    monkeypatch.setattr(checkpoint, "save", taking(2, checkpoint.save))
    settings = dataclasses.replace(SETTINGS, epochs=4)
    told = rehearse(source, settings.resolve(IMAGES), CPU, 1, quiet=True)
    clock[0] = 0.0
    train(source, tmp_path / "run", settings, device="cpu", workers=1, quiet=True)
    # the checkpoint of the beginning is not in the estimate
    assert told.seconds == pytest.approx(clock[0] - 2)


def test_the_parts_make_the_whole(source: ImageSource) -> None:
    told = rehearse(source, SETTINGS.resolve(IMAGES), CPU, 1, quiet=True)
    assert told.learning_seconds == pytest.approx(3 * told.step_seconds)  # 200 // 64
    # 5 epochs, and the last
    expected = 6 * (told.learning_seconds + told.saving_seconds) + 6 * told.estep_seconds
    assert told.seconds == pytest.approx(expected + told.reading_seconds)
    assert min(told.step_seconds, told.estep_seconds, told.saving_seconds) > 0
    assert told.gpu_memory_gib is None
    assert 0.1 < told.memory_gib < told.available_gib


def test_infonce_has_one_e_step_and_no_terms_over_prototypes(
    source: ImageSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms: list[set[str]] = []

    def noted(state: Training, batch: Views) -> dict[str, torch.Tensor]:
        found = take_step(state, batch)
        terms.append(set(found))
        return found

    monkeypatch.setattr(rehearsal, "take_step", noted)
    config = SETTINGS.resolve(IMAGES)
    told = rehearse(
        source, Config(**config.to_json() | {"objective": "infonce"}), CPU, 1, quiet=True
    )
    learning = 6 * (told.learning_seconds + told.saving_seconds)
    assert told.seconds == pytest.approx(told.reading_seconds + learning + told.estep_seconds)
    rehearse(source, config, CPU, 1, quiet=True)
    assert {frozenset(each) for each in terms[:3]} == {frozenset({"loss", "alignment", "infonce"})}
    assert {frozenset(each) for each in terms[3:]} == {
        frozenset({"loss", "alignment", "batch_singletons", "infonce", "align", "unif", "corr"})
    }


def test_small_views_are_tried_too(source: ImageSource, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []

    def noted(state: Training, batch: Views) -> dict[str, torch.Tensor]:
        shapes.extend(each.shape for each in batch.small)
        return take_step(state, batch)

    monkeypatch.setattr(rehearsal, "take_step", noted)
    config = dataclasses.replace(SETTINGS, small_views=2, architecture="pauc_resnet18_cifar_pool")
    monkeypatch.setattr(rehearsal, "MOST_STEPS", 1)
    rehearse(source, config.resolve(IMAGES), CPU, 1, quiet=True)
    assert shapes[:2] == [(64, 3, 16, 16)] * 2


def test_lower_sides_are_tried_and_weighed_by_their_epochs(
    source: ImageSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step takes as many seconds as the side of its views, features twice as many."""
    monkeypatch.setattr(rehearsal, "_step_seconds", lambda state, side, bar: float(side))
    monkeypatch.setattr(rehearsal, "_feature_seconds", lambda state, side, bar: 2.0 * side)
    monkeypatch.setattr(rehearsal, "_kmeans_seconds", lambda *_: 0.0)
    monkeypatch.setattr(rehearsal, "_description_seconds", lambda *_: 0.0)
    # of 6 epochs two have the lower side; clusters from the second on, and once more at the end
    config = dataclasses.replace(
        SETTINGS, size=64, progressive_sizes=(32,), progressive_share=1 / 3
    )
    told = rehearse(source, config.resolve(IMAGES), CPU, 1, quiet=True)
    assert told.step_seconds == pytest.approx((2 * 32 + 4 * 64) / 6)
    assert told.estep_seconds == pytest.approx(2 * (32 + 5 * 64) / 6)
    # all three batches of an epoch are measured anew
    expected = 6 * (3 * told.step_seconds + told.saving_seconds) + 6 * told.estep_seconds + 2 * 64
    assert told.seconds == pytest.approx(expected + told.reading_seconds)


def test_it_ends_in_time_and_goes_by_what_it_has_seen(
    source: ImageSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on images that take hours: one step, one batch of features."""
    monkeypatch.setattr(rehearsal, "LEARNING_SECONDS", 0.0)
    monkeypatch.setattr(rehearsal, "FEATURE_SECONDS", 0.0)
    steps: list[int] = []

    def counted(state: Training, batch: Views) -> dict[str, torch.Tensor]:
        steps.append(1)
        return take_step(state, batch)

    monkeypatch.setattr(rehearsal, "take_step", counted)
    told = rehearse(source, SETTINGS.resolve(IMAGES), CPU, 1, quiet=True)
    assert len(steps) == 1
    assert told.seconds > 0


def test_k_means_is_tried_on_a_part_and_multiplied(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is the work: points times clusters times passes."""
    clock = [0.0]

    def counted(points: torch.Tensor, k: int, *, iterations: int, backend: str) -> object:
        clock[0] += len(points) * k * (iterations + 2)
        return kmeans(points, k, iterations=1, backend="torch")

    monkeypatch.setattr(rehearsal, "kmeans", counted)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(rehearsal, "POINTS", 1000)
    for images, clusters, iterations in [(500, 10, 20), (1000, 40, 5), (80_000, 700, 20)]:
        config = Config(dim=8, kmeans_iterations=iterations, kmeans_restarts=3)
        told = rehearsal._kmeans_seconds(images, clusters, config, CPU)
        assert told == pytest.approx(images * clusters * (iterations + 2) * 3)


def test_describing_the_clusters_is_part_of_the_e_step(
    source: ImageSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "_description_seconds", lambda *_: 1000.0)
    assert 1000 < rehearse(source, SETTINGS.resolve(160), CPU, 1, quiet=True).estep_seconds < 1100


def test_nothing_is_left(
    source: ImageSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    before = sorted(Path(source.root).iterdir())
    rehearse(source, SETTINGS.resolve(IMAGES), CPU, 1, quiet=True)
    assert list(tmp_path.iterdir()) == []
    assert sorted(Path(source.root).iterdir()) == before


def test_a_batch_that_does_not_fit_the_gpu_is_one_line(
    source: ImageSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate …")

    monkeypatch.setattr(rehearsal, "take_step", full)
    with pytest.raises(TrainingFailed) as refused:
        rehearse(source, SETTINGS.resolve(IMAGES), CPU, 1, quiet=True)
    assert str(refused.value) == (
        "a batch of 64 images of 32 pixels does not fit the GPU. "
        "Start anew with less than batch_size=64 or size=32, a smaller architecture, or "
        "accumulate=2."
    )
    with pytest.raises(KeyError), machine.limits_explained(SETTINGS):
        raise KeyError


def test_a_torch_that_cannot_compile_is_one_line(
    source: ImageSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise torch._dynamo.exc.BackendCompilerFailed(
            lambda: None, FileNotFoundError("no compiler"), None
        )

    config = dataclasses.replace(SETTINGS, compile=True).resolve(IMAGES)
    monkeypatch.setattr(rehearsal, "take_step", broken)
    with pytest.raises(TrainingFailed) as refused:
        rehearse(source, config, CPU, 1, quiet=True)
    assert str(refused.value).startswith(
        "torch.compile failed (backend='<lambda>' raised: FileNotFound"
    )
    assert str(refused.value).endswith("). Start anew with compile=False.")
    assert "\n" not in str(refused.value)
    with pytest.raises(RuntimeError, match="ours"), machine.limits_explained(config):
        raise RuntimeError("ours")
