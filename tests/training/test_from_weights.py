"""A run from existing weights: what learns when, what is frozen, and what is said of before and
after.
"""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import tiny_swin
import torch
from PIL import Image

import pauc_hub
from pauc_hub.errors import Interrupted, UsageError
from pauc_hub.models.folder import open_folder
from pauc_hub.sources.by_index import open_by_index
from pauc_hub.training import loop
from pauc_hub.training.config import Config
from pauc_hub.training.monitoring.before_after import judged, made_worse, neighbour_agreement, told
from pauc_hub.training.networks.encoder import Encoder
from pauc_hub.training.networks.pretrained import block_count, blocks_of, load_weights
from pauc_hub.training.optimiser import let_learn, new_optimiser
from pauc_hub.training.recipes import settle
from pauc_hub.training.state import take_step

assert timm.is_model("test_swin"), tiny_swin.__doc__
CPU = torch.device("cpu")
SETTINGS: dict[str, Any] = {
    "size": 32,
    "epochs": 3,
    "batch_size": 8,
    "clusters": [2],
    "kmeans": "torch",
    "precision": "fp32",
    "lr": 1.0,
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of ten images."""
    folder, draws = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for i in range(20):
        place = folder / "ab"[i % 2]
        place.mkdir(exist_ok=True)
        coarse = draws.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((32, 32)).save(place / f"{i:02}.png")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that timm saved, with a classifier and running statistics."""
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=5)
    network(torch.randn(16, 3, 64, 64))
    path = tmp_path_factory.mktemp("models") / "given"
    timm.models.save_for_hf(network, str(path), safe_serialization=True)
    return path


@pytest.fixture(scope="module")
def trained(images: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    pauc_hub.train(
        images, run, weights_from=str(model), labelled=str(images), quiet=True, **SETTINGS
    )
    return run


def backbone(path: Path) -> dict[str, torch.Tensor]:
    weights = timm.create_model(f"local-dir:{path}", pretrained=True, num_classes=0).state_dict()
    # rounded, as the run's own are stored
    return {
        name: value.half().float() for name, value in weights.items() if "num_batches" not in name
    }


def test_the_model_decides_network_and_input_and_every_choice_has_its_reason(
    images: Path, model: Path
) -> None:
    source = open_by_index(images, quiet=True)
    config, choices = settle(
        source, CPU, {"weights_from": str(model), "batch_size": 8, "clusters": [2]}
    )
    assert (config.architecture, config.size, config.objective) == ("test_resnet", 160, "infonce")
    assert (config.freeze, config.projector_epochs, config.has_batch_norm) == (3, 2, False)
    assert config.mean == (0.5, 0.5, 0.5)
    reasons = {choice.name: choice.reason for choice in choices}
    assert reasons["freeze"] == "of 4 stages or blocks the first 3 keep the weights of given"
    assert reasons["backbone_rate"] == "the rate of the blocks that learn is 0.1 to 0.1 of lr"
    with pytest.raises(
        UsageError, match=r"^architecture='resnet18' is not that of weights_from='given'"
    ):
        settle(source, CPU, {"weights_from": str(model), "architecture": "resnet18"})
    with pytest.raises(
        UsageError, match=r"freeze=4 must be 0 to 3: test_resnet has 4 stages or blocks"
    ):
        settle(source, CPU, {"weights_from": str(model), "freeze": 4})


def test_a_run_remembers_a_bundled_model_by_its_name_and_a_folder_by_its_whole_path(
    images: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    source = open_by_index(images, quiet=True)
    for given, kept in (("pauc_resnet18", "pauc_resnet18.tiny_imagenet"), ("./given", str(model))):
        config, _ = settle(source, CPU, {"weights_from": given, "batch_size": 8, "clusters": [2]})
        assert config.weights_from == kept


@pytest.mark.parametrize(
    ("architecture", "count"),
    [
        ("test_resnet", 4),
        ("test_convnext", 4),
        ("test_vit", 6),
        ("test_swin", 2),
        ("test_efficientnet", 5),
    ],
)
def test_networks_are_divided_into_stages_or_blocks(architecture: str, count: int) -> None:
    assert block_count(architecture, 64) == count
    network = Encoder(architecture, 8, size=64).backbone
    found = blocks_of(network).of
    assert found.keys() == dict(network.named_parameters()).keys()
    names = list(found)
    assert found[names[0]] == 0
    assert found[names[-1]] == count
    assert {*found.values()} == {*range(count + 1)}


def test_blocks_learn_at_their_own_rates_and_the_projector_alone_at_first() -> None:
    config = Config(
        architecture="test_vit", weights_from="x", freeze=4, epochs=10, optimiser="adamw", lr=0.001
    )
    encoder = Encoder("test_vit", 8, size=64)
    let_learn(encoder, config, 0)
    assert [name for name, p in encoder.named_parameters() if p.requires_grad] == [
        f"projector.{layer}.{kind}" for layer in ("hidden", "output") for kind in ("weight", "bias")
    ]
    let_learn(encoder, config, 1)
    learning = {
        name.split(".")[2]
        for name, p in encoder.named_parameters()
        if p.requires_grad and ".blocks." in name
    }
    assert learning == {"4", "5"}
    scales = sorted({group["scale"] for group in new_optimiser(encoder, config).param_groups})
    assert scales == pytest.approx([0.075, 0.1, 1.0])


def test_weights_are_the_models_and_another_network_is_refused(model: Path) -> None:
    encoder = Encoder("test_resnet", 8, size=32)
    load_weights(encoder.backbone, str(model), 32)
    given = backbone(model)
    assert all(
        torch.equal(encoder.backbone.state_dict()[name].half().float(), value)
        for name, value in given.items()
    )
    with pytest.raises(UsageError, match=r"^weights_from='given': its network is built with"):
        load_weights(Encoder("test_byobnet", 8, size=32).backbone, str(model), 32)


def test_frozen_stages_and_all_statistics_stay(images: Path, model: Path, trained: Path) -> None:
    facts = open_folder(trained / "model").facts
    if facts["before_after"]["knn"]["kept"] == "before":
        pytest.fail("this run is to keep its own weights: choose another seed")
    before, after = backbone(model), backbone(trained / "model")
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"layer4"}
    assert not [
        name for name in before if "running" in name and not torch.equal(before[name], after[name])
    ]


def test_a_resumed_run_is_the_same(
    images: Path, model: Path, trained: Path, tmp_path: Path
) -> None:
    steps = 0

    def interrupted(state: Any, batch: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return take_step(state, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "take_step", interrupted)
        with pytest.raises(Interrupted):
            pauc_hub.train(
                images,
                tmp_path / "run",
                weights_from=str(model),
                labelled=str(images),
                quiet=True,
                **SETTINGS,
            )
    pauc_hub.train(images, tmp_path / "run", resume=True, quiet=True)
    first, second = (open_folder(run / "model") for run in (trained, tmp_path / "run"))
    assert [
        n
        for n, value in first.read_backbone().items()
        if not torch.equal(value, second.read_backbone()[n])
    ] == []
    assert first.facts["before_after"] == second.facts["before_after"]


def test_half_of_the_questions_choose_and_the_others_report() -> None:
    before = torch.tensor([1, 1, 1, 0, 0, 1, 0, 0]).bool()
    after = torch.tensor([1, 0, 1, 1, 1, 1, 0, 1]).bool()
    # chosen by 0, 2, 4, 6: two and three right; reported on 1, 3, 5, 7
    assert judged(before, after) == {"before": 0.5, "after": 0.75, "questions": 4, "kept": "after"}
    assert judged(after, before)["kept"] == "before"
    assert judged(before, before)["kept"] == "after"


def test_neighbours_that_stay_are_counted() -> None:
    rows = torch.eye(3).repeat_interleave(2, dim=0) + 0.01 * torch.arange(6).unsqueeze(1)
    assert neighbour_agreement(rows, 5 * rows) == 1.0
    some = torch.randn(400, 16, generator=torch.Generator().manual_seed(0))
    other = torch.randn(400, 16, generator=torch.Generator().manual_seed(1))
    assert neighbour_agreement(some, other) == pytest.approx(10 / 399, abs=0.01)


def test_only_labels_judge() -> None:
    plain = {
        "images": 20,
        "effective_rank": {"before": 9.26, "after": 3.0},
        "neighbours": 0.5,
        "from": "x",
    }
    assert told(plain) == [
        (
            "before and after, on 20 images: effective rank 9.3 and 3.0; 50 % of each image's "
            "nearest 10 are the same"
        )
    ]
    assert not made_worse(plain)
    knn = {"before": 0.75, "after": 0.5, "questions": 4, "kept": "before"}
    assert told(plain | {"knn": knn})[1] == (
        "kNN before and after, on 4 labelled images: 75.0 % and 50.0 %; "
        "on the other half the weights from before were better: the model has them"
    )
    assert made_worse(plain | {"knn": knn})
    assert not made_worse(plain | {"knn": knn | {"kept": "after", "after": 0.75}})
    assert told({}) == []
    assert not made_worse({})


def test_where_training_made_it_worse_the_model_has_the_weights_from_before(
    images: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def worse(before: torch.Tensor, after: torch.Tensor) -> dict[str, Any]:
        return judged(torch.ones_like(before), torch.zeros_like(after))

    monkeypatch.setattr("pauc_hub.training.monitoring.before_after.judged", worse)
    made = pauc_hub.train(
        images,
        tmp_path / "run",
        weights_from=str(model),
        labelled=str(images),
        quiet=True,
        **SETTINGS,
    )
    before, after = backbone(model), backbone(made)
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
