"""Recipes: each can be trained on its data set and stands in the manual; who has the last word on a
setting.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pauc_hub.errors import UsageError
from pauc_hub.sources.by_index import ImageSource, open_by_index
from pauc_hub.training.config import Config
from pauc_hub.training.recipes import OWN_IMAGES, read_recipe, recipe_names, settle
from pauc_hub.training.settings import from_mapping

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "settings.md").read_text()
CPU = torch.device("cpu")
IMAGES = {
    "cifar10_infonce": 50_000,
    "cifar10_pauc": 50_000,
    "cifar10_protonce": 50_000,
    "imagenet100": 126_689,
    "imagenet1k": 1_281_167,
    "own_images": 1000,
    "tiny_imagenet": 100_000,
}


@pytest.fixture
def source(tmp_path: Path) -> ImageSource:
    """70 images of 48 x 40 pixels."""
    for i in range(70):
        Image.fromarray(np.full((48, 40, 3), i, np.uint8)).save(tmp_path / f"{i}.png")
    return open_by_index(tmp_path)


def test_the_recipes_are_those_of_the_manual() -> None:
    assert recipe_names() == sorted(IMAGES)
    section = PAGE.partition("## Recipes\n")[2].partition("\n## ")[0]
    assert [name for name in recipe_names() if f"| `{name}` |" not in section] == []


@pytest.mark.parametrize("name", sorted(IMAGES))
def test_a_recipe_can_be_trained_on_its_data_set(name: str) -> None:
    written = read_recipe(name)
    config = from_mapping(written, name).resolve(IMAGES[name])
    assert all(
        getattr(config, each) == getattr(from_mapping(written, name), each) for each in written
    )
    assert config.batch_size >= 2 * config.norm_group


def test_the_recipes_for_cifar10_differ_in_the_objective_alone() -> None:
    infonce, protonce, pauc = (
        read_recipe(f"cifar10_{name}") for name in ("infonce", "protonce", "pauc")
    )
    assert protonce == infonce | {"objective": "protonce", "clusters": [1000, 2000, 4000]}
    assert pauc == protonce | {"objective": "pauc"}


def test_the_recipes_after_mnn_blur_as_it_does() -> None:
    names = [name for name in recipe_names() if "blur_sigma" in read_recipe(name)]
    assert names == ["cifar10_infonce", "cifar10_pauc", "cifar10_protonce", "tiny_imagenet"]
    configs = [from_mapping(read_recipe(name), name) for name in names]
    assert {(config.blur, config.blur_range) for config in configs} == {(0.5, (0.1, 2.0))}


def test_the_recipes_for_small_images_have_the_stems_that_were_published_with_them() -> None:
    assert {read_recipe(f"cifar10_{name}")["architecture"] for name in ("infonce", "pauc")} == {
        "pauc_resnet18_cifar"
    }
    assert read_recipe("tiny_imagenet")["architecture"] == "pauc_resnet18_cifar_pool"


@pytest.mark.parametrize("name", sorted(IMAGES))
def test_a_recipe_keeps_the_momentum_and_the_optimiser_of_its_source(name: str) -> None:
    config = from_mapping(read_recipe(name), name)
    assert (config.optimiser, config.momentum_rises, config.accumulate) == ("sgd", False, 1)


def test_the_recipe_for_imagenet_is_that_of_pcl() -> None:
    config = from_mapping(read_recipe("imagenet1k"), "imagenet1k")
    assert (config.architecture, config.epochs, config.warmup_epochs, config.size) == (
        "resnet50",
        200,
        20,
        224,
    )
    assert (config.peak_lr, config.batch_size, config.weight_decay, config.lr_warmup) == (
        0.03,
        256,
        1e-4,
        0,
    )
    assert (config.temperature, config.momentum, config.queue, config.negatives) == (
        0.2,
        0.999,
        16384,
        16384,
    )
    assert config.clusters == (25_000, 50_000, 100_000)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("cifar10_pauk", "Did you mean 'cifar10_pauc'? "), ("../own_images", ""), ("", "")],
)
def test_an_unknown_recipe_is_one_line(name: str, hint: str, source: ImageSource) -> None:
    hint = "Did you mean 'own_images'? " if "own" in name else hint
    expected = f"unknown recipe '{name}'. {hint}There are {', '.join(sorted(IMAGES))}."
    with pytest.raises(UsageError) as refused:
        settle(source, CPU, {}, name)
    assert str(refused.value) == expected


def test_own_images_are_looked_at(source: ImageSource) -> None:
    config, choices = settle(source, CPU, {})
    assert (config.size, config.batch_size, config.norm_group, config.epochs) == (32, 64, 32, 200)
    assert (config.objective, config.clusters, config.queue) == ("pauc", (2, 3, 6), 64)
    names = [
        "size",
        "architecture",
        "batch_size",
        "norm_group",
        "epochs",
        "clusters",
        "queue",
        "lr",
    ]
    assert [choice.name for choice in choices] == names
    told = {choice.name: choice.value for choice in choices}
    assert from_mapping(config.to_json() | told, "what was told") == config


def test_what_is_given_stands_before_what_is_chosen(source: ImageSource) -> None:
    config, choices = settle(
        source, CPU, {"size": 48, "epochs": 3, "clusters": [2, 4], "objective": "infonce"}
    )
    assert (config.size, config.epochs, config.clusters, config.objective) == (
        48,
        3,
        (2, 4),
        "infonce",
    )
    assert [choice.name for choice in choices] == [
        "architecture",
        "batch_size",
        "norm_group",
        "queue",
        "lr",
    ]


def test_a_recipe_stands_before_the_defaults_and_behind_what_is_given(
    source: ImageSource, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mine.toml").write_text("epochs = 7\nbatch_size = 70\nnorm_group = 33\nsize = 40\n")
    monkeypatch.setattr("pauc_hub.training.recipes.FOLDER", tmp_path)
    config, choices = settle(source, CPU, {"batch_size": 66}, "mine")
    assert (config.epochs, config.batch_size, config.size) == (7, 66, 40)
    # nothing is chosen
    assert (config.architecture, config.norm_group) == (Config.architecture, 33)
    assert [choice.name for choice in choices] == ["clusters", "queue", "lr"]


def test_wrong_values_are_refused_before_any_image_is_read(source: ImageSource) -> None:
    for path in Path(source.root).glob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(UsageError, match=r"^run\.toml: unknown setting 'epoch'"):
        settle(source, CPU, {"epoch": 3}, OWN_IMAGES, "run.toml")
    assert source.unreadable == {}


def test_too_few_images_are_one_clear_problem(source: ImageSource) -> None:
    few = source.subset(range(12))
    with pytest.raises(UsageError) as refused:
        settle(few, CPU, {})
    assert str(refused.value) == (
        "the configuration cannot be trained: clusters=2 needs at least 20 images (10 each); "
        "there are 12."
    )
