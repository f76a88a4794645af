"""Which encoder makes what: prototypes to learn with, the model folder, and the prototypes in
it.
"""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pauc_hub.models.folder import open_folder
from pauc_hub.sources.by_index import open_by_index
from pauc_hub.training import expectation_step, finish, loop
from pauc_hub.training.config import Config
from pauc_hub.training.data import Loader, Views
from pauc_hub.training.estep import Expectation, all_features, expect, shuffled
from pauc_hub.training.interruption import StopRequest
from pauc_hub.training.monitoring.diagnostics import diagnose
from pauc_hub.training.networks.encoder import STALE, Encoder
from pauc_hub.training.networks.norms import measure_statistics
from pauc_hub.training.run import checkpoint, run_folder
from pauc_hub.training.state import Training, new_training, take_step

IMAGES = 24
CONFIG = Config(
    architecture="test_resnet",
    size=32,
    epochs=2,
    batch_size=8,
    queue=12,
    clusters=(2,),
    kmeans="torch",
    precision="fp32",
)
Centroids = dict[str, Tensor]


def centroids(state: Training, encoder: Encoder, epoch: int) -> Tensor:
    """(2, D) of an E-step."""
    batch_size = 2 * CONFIG.batch_size
    features, readable = all_features(
        encoder, state.loader, state.device, state.dtype, batch_size, lambda _: None
    )
    return expect(features, readable, CONFIG, epoch).prototypes[0].centroids


def by_each(state: Training, epoch: int) -> Centroids:
    return {name: centroids(state, getattr(state.pair, name), epoch) for name in ("query", "key")}


def write_images(folder: Path) -> None:
    folder.mkdir()
    draws = np.random.default_rng(0)
    for i in range(IMAGES):
        coarse = draws.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((32, 32)).save(folder / f"{i:02}.png")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tensor, Centroids]:
    """A run; the prototypes that its second epoch learnt with; and those that each encoder would
    have given it.
    """
    folder = tmp_path_factory.mktemp("loop")
    write_images(folder / "images")
    learnt_with: list[Tensor] = []
    given: Centroids = {}

    def noted(state: Training, batch: Views) -> dict[str, Tensor]:
        if state.epoch == 1 and state.step == 0:
            assert state.expectation is not None
            learnt_with.append(state.expectation.prototypes[0].centroids)
            given.update(by_each(state, 1))
        return take_step(state, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "take_step", noted)
        loop.train(folder / "images", folder / "run", CONFIG, quiet=True)
    return folder, learnt_with[0], given


@pytest.fixture(scope="module")
def last(trained: tuple[Path, Tensor, Centroids]) -> Training:
    """Where the run stood before its last E-step."""
    folder, _, _ = trained
    source, run = open_by_index(folder / "images", quiet=True), folder / "run"
    state = new_training(run, CONFIG, source, torch.device("cpu"), 1, StopRequest(), quiet=True)
    place = checkpoint.read_place(run, source.fingerprint())
    assert place is not None
    assert place.epoch == CONFIG.epochs
    state.resume_from(place)
    return state


def test_the_e_step_is_by_the_momentum_encoder(trained: tuple[Path, Tensor, Centroids]) -> None:
    _, learnt_with, given = trained
    assert torch.equal(learnt_with, given["key"])
    assert not torch.allclose(given["query"], given["key"], atol=1e-3)


def test_the_query_encoder_is_exported_and_facts_say_so(
    trained: tuple[Path, Tensor, Centroids], last: Training
) -> None:
    folder = open_folder(trained[0] / "run" / run_folder.MODEL)
    assert folder.facts["encoder"] == "query"
    exported = folder.read_backbone() | (folder.read_projector() or {})
    query, key = (
        e.backbone.state_dict() | e.projector.state_dict() for e in (last.pair.query, last.pair.key)
    )
    assert exported.keys() == query.keys()
    for name, value in exported.items():
        # stored in 16 bits
        assert torch.allclose(value.float(), query[name].float(), rtol=1e-3, atol=1e-6), name
    assert any(not torch.allclose(query[name], key[name], rtol=1e-2) for name in query)


def test_the_prototypes_in_the_model_folder_are_of_its_own_weights(
    trained: tuple[Path, Tensor, Centroids], last: Training
) -> None:
    (prototypes,) = open_folder(trained[0] / "run" / run_folder.MODEL).read_prototypes()
    expected = by_each(last, CONFIG.epochs)
    # stored in 16 bits
    assert torch.allclose(prototypes.centroids, expected["query"], atol=3e-4)
    assert not torch.allclose(prototypes.centroids, expected["key"], atol=3e-3)


def test_as_a_control_shuffled_assignments_are_learnt_with_and_the_real_ones_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Tensor] = {}

    def noted(state: Training, batch: Views) -> dict[str, Tensor]:
        if state.expectation is not None:
            seen["learnt with"] = state.expectation.assignments[0]
        return take_step(state, batch)

    def watched(*given: Any) -> dict[str, float]:
        seen.setdefault("watched", given[2].assignments[0])
        return diagnose(*given)

    monkeypatch.setattr(loop, "take_step", noted)
    monkeypatch.setattr(expectation_step, "diagnose", watched)
    write_images(tmp_path / "images")
    config = dataclasses.replace(CONFIG, shuffle_assignments=True)
    loop.train(tmp_path / "images", tmp_path / "run", config, quiet=True)
    real = Expectation((), (seen["watched"],))
    assert seen["learnt with"].equal(shuffled(real, config.seed, 1).assignments[0])
    assert not seen["learnt with"].equal(seen["watched"])


def test_with_progressive_resolution_each_step_has_its_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Views, E-steps, the queue on a change of side, and at the end the statistics of batch
    norm.
    """
    sides: list[tuple[str, int]] = []
    counted: list[int] = []

    def noted(state: Training, batch: Views) -> dict[str, Tensor]:
        sides.append(("step", batch.first.shape[-1]))
        counted.append(int((state.pair.queue.index != STALE).sum()))
        return take_step(state, batch)

    def watched(encoder: Encoder, loader: Loader, *rest: Any) -> Any:
        sides.append(
            ("query" if encoder is not state_of[0].pair.key else "key", loader.preprocessing.size)
        )
        return all_features(encoder, loader, *rest)

    def measured(encoder: Encoder, batches: Iterable[Tensor], *rest: Any) -> None:
        shown = list(batches)
        sides.append(("measured", shown[0].shape[-1]))
        assert len(shown) == 3
        measure_statistics(encoder, shown, *rest)

    state_of: list[Training] = []

    def made(*given: Any, **options: Any) -> Training:
        state_of.append(new_training(*given, **options))
        return state_of[0]

    monkeypatch.setattr(loop, "take_step", noted)
    monkeypatch.setattr(expectation_step, "all_features", watched)
    monkeypatch.setattr(finish, "measure_statistics", measured)
    monkeypatch.setattr(loop, "new_training", made)
    write_images(tmp_path / "images")
    config = dataclasses.replace(
        CONFIG, size=40, epochs=3, progressive_sizes=(32,), progressive_share=0.6
    )
    path = loop.train(tmp_path / "images", tmp_path / "run", config, quiet=True)
    low, full = [("step", 32)] * 3, [("step", 40)] * 3
    assert sides == [*low, ("key", 32), *low, ("key", 40), *full, ("measured", 40), ("query", 40)]
    # a queue of 12 keys, of which none counts at the change of side, and then those of 8 images
    # more each step
    assert counted == [12] * 6 + [0, 8, 12]
    assert open_folder(path).facts["config"]["size"] == 40
    place = checkpoint.read_place(
        tmp_path / "run", open_by_index(tmp_path / "images", quiet=True).fingerprint()
    )
    assert place is not None
    assert place.queue_side == 40
