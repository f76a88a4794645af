"""Two processes that share a run learn what one learns from the joined batch, and see every image
once.
"""

import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from pauc_hub.errors import UsageError
from pauc_hub.processes import Ranks
from pauc_hub.training.config import Config
from pauc_hub.training.distributed import ONE_PROCESS, World, join, sharing_problems

PROGRAM = Path(__file__).with_name("shared_work.py")
IMAGES, BROKEN = 141, (3, 100)  # which two processes cannot share evenly; one broken in each half
Results = dict[str, Any]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, draws = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for i in range(IMAGES):
        coarse = draws.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((40, 36)).save(folder / f"{i:03}.png")
    for i in BROKEN:
        (folder / f"{i:03}.png").write_text("broken")
    return folder


@pytest.fixture(scope="module")
def found(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes left what they found: 0.pt and 1.pt, and lost.txt of the one that
    outlived the other.
    """
    folder = tmp_path_factory.mktemp("found")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    meeting = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), str(images), str(folder)],
            env=os.environ | meeting | {"RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"},
        )
        for rank in "01"
    ]
    assert [process.wait(timeout=600) for process in processes] == [0, 9]
    return folder


@pytest.fixture(scope="module")
def two(found: Path) -> tuple[Results, Results]:
    return torch.load(found / "0.pt"), torch.load(found / "1.pt")


@pytest.fixture(scope="module")
def one(images: Path) -> Results:
    results: Results = runpy.run_path(str(PROGRAM), run_name="shared_work")["work"](
        ONE_PROCESS, images
    )
    return results


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def close(a: dict[str, Tensor], b: dict[str, Tensor], within: float) -> bool:
    """Each tensor's largest difference, as a share of its largest number."""
    return a.keys() == b.keys() and max(map(float, apart(a, b).values())) <= within


def apart(a: dict[str, Tensor], b: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: (a[name] - b[name]).abs().max() / a[name].abs().max().clamp_min(1e-3) for name in a
    }


def test_rows_are_gathered_in_order_and_shuffled_as_one_process_would(
    two: tuple[Results, Results],
) -> None:
    for results in two:
        found = results["collectives"]
        assert found["gathered"].tolist() == [[i, 10.0 + i] for i in range(7)]
        assert found["flags"].tolist() == [False] * 6 + [True]
        assert found["shuffled"].tolist() == [5, 0, 3, 2, 4, 1]


def test_what_one_process_knows_all_know(two: tuple[Results, Results], one: Results) -> None:
    for results in (*two, one):
        found = results["collectives"]
        assert found["any"] == [True, False]
        assert found["merged"] == {i: f"image {i}" for i in range(7)}
        assert found["decided"] == 0
        assert found["said"] == "UsageError: decided by 0"


def test_reclusterings_are_shared_and_the_calibration_is_that_of_one_process(
    two: tuple[Results, Results], one: Results
) -> None:
    alone = one["calibration"]
    assert alone["rounds"] == alone["reclusterings"] == 10
    for results in two:
        assert results["calibration"] == alone | {"rounds": 5}


@pytest.mark.parametrize("objective", ["infonce", "protonce", "pauc"])
def test_loss_and_gradients_are_those_of_the_joined_batch(
    objective: str, two: tuple[Results, Results], one: Results
) -> None:
    for results in two:
        assert close(results[objective]["terms"], one[objective]["terms"], 1e-5)
        # rounding turns a ReLU or two
        assert close(results[objective]["gradients"], one[objective]["gradients"], 0.01)
    gradients = one[objective]["gradients"]
    # so the measure tells
    assert not close({name: each / 2 for name, each in gradients.items()}, gradients, 0.1)


@pytest.mark.parametrize("objective", ["infonce", "protonce", "pauc"])
def test_networks_statistics_and_queue_are_equal_on_all_and_those_of_one_process(
    objective: str, two: tuple[Results, Results], one: Results
) -> None:
    first, second = (results[objective]["pair"] for results in two)
    assert same(first, second)
    # of one's own groups; nobody reads it
    counts = {name for name in first if name.endswith("num_batches_tracked")}
    alone = {name: value for name, value in one[objective]["pair"].items() if name not in counts}
    assert close({name: first[name] for name in alone}, alone, 1e-4)
    assert any("running_var" in name for name in alone)


def test_the_e_step_sees_every_image_once(two: tuple[Results, Results], one: Results) -> None:
    reads = [results["reads"] for results in two]
    assert sorted(reads[0] + reads[1]) == list(range(IMAGES))
    assert abs(len(reads[0]) - len(reads[1])) == 1
    assert two[0]["batches"] == two[1]["batches"]
    assert torch.allclose(two[0]["estep"]["features"], one["estep"]["features"], atol=1e-5)


def test_prototypes_and_what_is_watched_are_those_of_one_process(
    two: tuple[Results, Results], one: Results
) -> None:
    assert same(two[0]["estep"], two[1]["estep"])
    alone = one["estep"]
    assert {
        "centroids 1",
        "concentrations 1",
        "sizes 1",
        "radius 1",
        "parents 1",
        "assignment 0",
    } <= alone.keys()
    assert close(two[0]["estep"], alone, 1e-4)
    assert two[0]["watched"] == two[1]["watched"] == pytest.approx(one["watched"], rel=1e-4)
    assert int(alone["sizes 0"].sum()) == IMAGES - len(BROKEN)


def test_who_outlives_another_process_says_so(two: tuple[Results, Results], found: Path) -> None:
    said = (found / "lost.txt").read_text()
    assert said.startswith("TrainingFailed: another process of this run ended (")
    assert said.endswith("). The last checkpoint stands: go on with resume=True.")


def test_without_a_meeting_place_nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    message = r"^WORLD_SIZE is 4, but MASTER_ADDR is not set: start the processes with torchrun"
    with pytest.raises(UsageError, match=message), join(Ranks(1, 4), torch.device("cpu")):
        pass


def test_one_process_is_alone() -> None:
    with join(Ranks(), torch.device("cpu")) as world:
        assert world is ONE_PROCESS
    weights = nn.Parameter(torch.ones(3))
    weights.grad = torch.tensor([1.0, 2.0, 3.0])
    world.sum_gradients([weights])
    assert weights.grad.tolist() == [1, 2, 3]


@pytest.mark.parametrize("total", [3, 7, 12])
def test_stretches_follow_each_other_and_leave_nothing_out(total: int) -> None:
    rows = [row for rank in range(3) for row in range(total)[World(rank, 3).stretch(total)]]
    assert rows == list(range(total))


@pytest.mark.parametrize(
    ("batch_size", "group", "processes", "advice"),
    [
        (256, 64, 1, None),
        (256, 64, 4, None),
        (192, 32, 2, None),
        (
            256,
            64,
            8,
            "a batch_size that is a multiple of 512 (512), norm_group 32, or fewer processes",
        ),
        (
            96,
            32,
            2,
            "a batch_size that is a multiple of 64 (128), norm_group 48, or fewer processes",
        ),
        (100, 32, 3, "a batch_size that is a multiple of 96 (96), or fewer processes"),
    ],
)
def test_batches_that_cannot_be_shared_are_refused_with_what_would_do(
    batch_size: int, group: int, processes: int, advice: str | None
) -> None:
    config = Config(batch_size=batch_size, norm_group=group)
    assert [each.partition(": choose ")[2] for each in sharing_problems(config, processes)] == [
        advice
    ] * bool(advice)


def test_each_process_has_a_group_for_every_part_of_the_gradient() -> None:
    assert sharing_problems(Config(batch_size=256, norm_group=32, accumulate=4), 2) == []
    (problem,) = sharing_problems(Config(batch_size=256, norm_group=32, accumulate=5), 2)
    assert problem == (
        "accumulate 5 must be 4 or less, the batch-norm groups of a batch that each of 2 "
        "processes has"
    )


def test_faiss_is_refused_beside_others() -> None:
    config = Config(kmeans="faiss")
    assert sharing_problems(config, 1) == []
    (problem,) = sharing_problems(config, 2)
    assert (
        problem == "kmeans 'faiss' runs in one process, not in 2: choose torch, or leave it at auto"
    )
