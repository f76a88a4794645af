"""Settings chosen for somebody's images: the rules as a table; they agree with each other and what
is given.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pauc_hub.sources.by_index import open_by_index
from pauc_hub.training.auto import Choice, Facts, choose, consequences, scaling, usual_side
from pauc_hub.training.config import Config
from pauc_hub.training.machine import Machine, machine_of
from pauc_hub.training.networks.norms import group_count
from pauc_hub.training.networks.pace import images_per_second

ROOT = Path(__file__).resolve().parents[2]
GIB = 2**30
CPU = Machine(gpu=False, memory=16 * GIB, wide=True)
LARGE_GPU = Machine(gpu=True, memory=80 * GIB, wide=False)
SMALL_GPU = Machine(gpu=True, memory=8 * GIB, wide=False)


def facts(images: int, side: int, machine: Machine) -> Facts:
    """Of a machine that sees so many images in three hours, whatever the network."""
    seen = 20_000_000 if machine.gpu else 2_000_000
    return Facts(images, side, machine, lambda architecture, size: seen / (3 * 3600))


def chosen(images: int, side: int, machine: Machine, **given: Any) -> dict[str, Any]:
    return {choice.name: choice.value for choice in choose(facts(images, side, machine), given)}


NAMES = ("architecture", "size", "batch_size", "norm_group", "epochs")
RULES: list[tuple[int, int, Machine, tuple[str, int, int, int, int]]] = [
    # images, their shorter sides, machine: architecture, size, batch, images that share statistics,
    # epochs
    (20, 20, CPU, ("resnet18", 32, 20, 20, 200)),
    (63, 500, CPU, ("resnet18", 64, 63, 63, 200)),
    (64, 500, CPU, ("resnet18", 64, 64, 32, 200)),
    (120, 500, CPU, ("resnet18", 64, 64, 32, 200)),
    (2100, 96, CPU, ("resnet18", 64, 128, 64, 200)),
    (50_000, 32, CPU, ("resnet18", 32, 256, 64, 40)),
    (1_300_000, 500, CPU, ("resnet18", 64, 256, 64, 10)),
    (20, 20, LARGE_GPU, ("pauc_resnet18_cifar", 32, 20, 20, 800)),
    (120, 500, LARGE_GPU, ("resnet18", 224, 64, 32, 800)),
    (50_000, 32, LARGE_GPU, ("pauc_resnet18_cifar", 32, 256, 64, 400)),
    (199_999, 96, LARGE_GPU, ("resnet18", 96, 256, 64, 100)),
    (200_000, 127, LARGE_GPU, ("resnet50", 96, 256, 64, 100)),
    (1_300_000, 500, LARGE_GPU, ("resnet50", 224, 256, 64, 100)),
    (1_300_000, 500, SMALL_GPU, ("resnet50", 224, 64, 32, 100)),  # 4 GiB for 57 MiB an image: 71
    # 35, but 64 at least
    (1_300_000, 500, SMALL_GPU._replace(wide=True), ("resnet50", 224, 64, 32, 100)),
    (1_300_000, 160, SMALL_GPU, ("resnet50", 160, 128, 64, 100)),  # 4 GiB for 30 MiB an image: 137
    (500_000, 40, LARGE_GPU, ("pauc_resnet50_cifar", 32, 256, 64, 100)),
    # 4 GiB for 17 MiB an image: 240
    (500_000, 40, SMALL_GPU, ("pauc_resnet50_cifar", 32, 224, 64, 100)),
    # 4 GiB for 30 MiB an image: 136
    (50_000, 500, SMALL_GPU._replace(wide=True), ("resnet18", 224, 128, 64, 400)),
]


@pytest.mark.parametrize(("images", "side", "machine", "expected"), RULES)
def test_settings_follow_from_number_size_and_machine(
    images: int, side: int, machine: Machine, expected: tuple[str, int, int, int, int]
) -> None:
    assert chosen(images, side, machine) == dict(zip(NAMES, expected, strict=True))


@pytest.mark.parametrize("images", [20, 63, 64, 65, 120, 1000, 1023, 5000, 250_000, 20_000_000])
@pytest.mark.parametrize("side", [1, 20, 32, 96, 500])
@pytest.mark.parametrize("machine", [CPU, LARGE_GPU, SMALL_GPU])
def test_what_is_chosen_can_be_trained(images: int, side: int, machine: Machine) -> None:
    config = Config(**chosen(images, side, machine)).resolve(images)
    assert images < 64 or config.batch_size >= 2 * config.norm_group


def test_what_is_given_is_not_chosen_and_the_rest_agrees_with_it() -> None:
    plain = chosen(1_300_000, 500, SMALL_GPU)
    assert chosen(1_300_000, 500, SMALL_GPU, epochs=3, dim=64) == {
        n: v for n, v in plain.items() if n != "epochs"
    }
    # views decide, not images
    assert chosen(1000, 500, LARGE_GPU, size=32)["architecture"] == "pauc_resnet18_cifar"
    smaller = chosen(1_300_000, 500, SMALL_GPU, architecture="resnet18", size=128)
    assert smaller.keys() == {"batch_size", "norm_group", "epochs"}
    assert smaller["batch_size"] == 256  # 4 GiB for 5 MiB an image
    assert chosen(10_000, 32, CPU, batch_size=96)["norm_group"] == 32
    assert chosen(10_000, 32, CPU, batch_size=512)["norm_group"] == 64


def test_values_that_the_config_will_refuse_pass() -> None:
    assert "batch_size" in chosen(1000, 64, CPU, architecture="vit", size=0)


def test_every_choice_says_why() -> None:
    told = {choice.name: choice.reason for choice in choose(facts(1_300_000, 375, SMALL_GPU), {})}
    assert told == {
        "architecture": (
            "a resnet50 pays off with a GPU and 200,000 images or more; here are a GPU and "
            "1,300,000"
        ),
        "size": "pixels; the images' shorter sides have about 375, and 224 is the most",
        "batch_size": "what the 8 GiB of a GPU hold; 64 at least",
        "norm_group": (
            "images that share batch statistics, at least: a batch of 64 is 2 groups of 32"
        ),
        "epochs": (
            "100 to 800, to see about 20,000,000 images in all, 3 hours at the rate measured "
            "on this GPU"
        ),
    }
    told = {choice.name: choice.reason for choice in choose(facts(120, 40, LARGE_GPU), {})}
    assert told["architecture"].endswith(
        "a GPU and 120; the usual stem leaves too little of views so small"
    )
    told = {choice.name: choice.reason for choice in choose(facts(120, 375, CPU), {})}
    assert told["size"].endswith("a CPU takes too long over more than 64")
    assert told["batch_size"] == "16 batches an epoch or more, of 64 to 256 images"


def test_what_is_said_of_batch_norm_is_what_is_done() -> None:
    """The groups that are told are those of the network, and too few images for two are told to
    have one.
    """
    for batch_size, told in (
        (100, "3 groups of 33 or 34"),
        (128, "2 groups of 64"),
        (200, "3 groups of 66 or 67"),
    ):
        choices = {c.name: c for c in choose(facts(5000, 64, CPU), {"batch_size": batch_size})}
        assert choices["norm_group"].reason.endswith(f"a batch of {batch_size} is {told}")
        count = group_count(batch_size, choices["norm_group"].value)
        sizes = sorted({len(part) for part in torch.arange(batch_size).tensor_split(count)})
        assert f"{count} groups of {' or '.join(map(str, sizes))}" == told
    few = {c.name: c for c in choose(facts(40, 64, CPU), {})}["norm_group"]
    assert (few.value, group_count(40, few.value)) == (40, 1)
    assert few.reason == (
        "images that share batch statistics: all of a batch, since two groups of 32 need 64 "
        "images; "
        "what is given up: a query can find its key by their batch mates"
    )


def test_what_the_number_of_images_decided_is_told_too() -> None:
    config = Config(batch_size=64, norm_group=32, lr=0.08).resolve(1000)
    clusters = Choice(
        "clusters", [20, 40, 80], "one for 50, 25 and 12.5 images, or for 10 at least"
    )
    queue = Choice("queue", 448, "whole batches: half of the images, 16,384 at most")
    rate = Choice("lr", 0.08, "for a batch of 256, and in proportion: 0.02 for 64")
    assert consequences(config, {}) == [clusters, queue, rate]
    assert consequences(config, {"queue": 448, "lr": 0.08, "clusters": None}) == [clusters]
    adamw = Config(batch_size=64, lr=0.001, optimiser="adamw")
    assert scaling(adamw) == "for a batch of 256, and by its square root: 0.0005 for 64"


def test_the_usual_side_is_the_median_of_the_shorter_ones(tmp_path: Path) -> None:
    for i, size in enumerate([(40, 90), (90, 50), (70, 60), (400, 300)]):
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "5.png").write_bytes(b"")
    assert usual_side(open_by_index(tmp_path)) == 55
    for path in tmp_path.glob("[0-3].png"):
        path.unlink()
    assert usual_side(open_by_index(tmp_path)) == 224


def test_many_images_are_sampled(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((24, 30, 3), np.uint8)).save(tmp_path / "000.png")
    for i in range(1, 130):
        (tmp_path / f"{i:03}.png").write_bytes(b"")
    source = open_by_index(tmp_path)
    assert usual_side(source) == 24
    assert list(source.unreadable) == list(range(3, 130, 3))


def test_a_machine_tells_of_its_memory() -> None:
    machine = machine_of(torch.device("cpu"))
    assert not machine.gpu
    assert 2**28 < machine.memory < 2**50


@pytest.mark.parametrize("machine", [CPU, LARGE_GPU])
def test_the_bundled_models_command_still_gives_its_settings(machine: Machine) -> None:
    """Its card promises that: whatever is chosen for 100,000 images of 64 pixels must be what it
    was trained with.
    """
    facts = json.loads(
        (ROOT / "pauc_hub" / "weights" / "pauc_resnet18.tiny_imagenet" / "facts.json").read_text()
    )
    config, given = facts["config"], {"kmeans": "torch"}  # what auto meant on that machine
    for option in ("size", "epochs", "lr", "clusters"):
        assert f"--{option} " in facts["command"]
        given[option] = config[option]
    again = Config(**given | chosen(100_000, 64, machine, **given)).resolve(100_000)
    assert json.loads(json.dumps({name: getattr(again, name) for name in config})) == config


def test_epochs_follow_from_the_networks_pace_and_those_given_ask_for_no_measurement() -> None:
    paces = {"test_resnet": 400.0, "test_vit": 40.0}
    slow, quick = (
        {
            c.name: c.value
            for c in choose(
                Facts(10_000, 64, CPU, lambda name, _: paces[name]), {"architecture": name}
            )
        }
        for name in ("test_vit", "test_resnet")
    )
    assert (slow["epochs"], quick["epochs"]) == (40, 200)
    assert "epochs" not in {c.name for c in choose(Facts(10_000, 64, CPU, unasked), {"epochs": 3})}


def unasked(architecture: str, size: int) -> float:
    raise AssertionError(f"{architecture} at {size} was measured")


def test_memory_decides_by_the_network_at_hand() -> None:
    tiny = CPU._replace(memory=GIB)
    sizes = {
        name: chosen(10_000, 64, tiny, architecture=name)["batch_size"]
        for name in ("test_vit", "resnet101")
    }
    assert sizes == {"test_vit": 256, "resnet101": 64}


def test_the_pace_is_measured() -> None:
    quick, slow = (
        images_per_second("test_resnet", size, torch.device("cpu"), torch.float32)
        for size in (32, 160)
    )
    assert quick > 2 * slow > 0
