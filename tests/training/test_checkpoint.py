"""Checkpoints: what is saved comes back, a write that fails leaves the one before, and a wrong one is refused."""

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pauc_hub.errors import TrainingFailed, UsageError
from pauc_hub.folder import Prototypes
from pauc_hub.training import checkpoint
from pauc_hub.training.checkpoint import NAME, Place
from pauc_hub.training.config import OPTIMISERS, Config
from pauc_hub.training.encoder import MomentumPair
from pauc_hub.training.estep import Expectation
from pauc_hub.training.optimiser import new_optimiser

CPU = torch.device("cpu")
PLACE = Place(3, 7, 12.5, "abc", command="pauc train photos -o run", watched={"intra_share": 0.1 + 0.2})


def training(seed: int, optimiser: str = "sgd") -> tuple[MomentumPair, torch.optim.Optimizer]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        pair = MomentumPair("test_resnet", dim=8, queue=6, group=32)
    pair.to(memory_format=torch.channels_last)
    return pair, new_optimiser(pair.query, Config(optimiser=optimiser, lr=0.01))


def learn(pair: MomentumPair, optimiser: torch.optim.Optimizer) -> None:
    """A step with gradients that follow from nothing but the weights."""
    optimiser.zero_grad()
    sum((parameter**2).sum() for parameter in pair.query.parameters()).backward()  # type: ignore[union-attr]
    optimiser.step()
    pair.follow(0.9)
    pair.queue.push(torch.eye(8)[:4])


def clusters(count: int, parents: Tensor | None = None) -> Prototypes:
    rows = torch.nn.functional.normalize(torch.arange(1.0, 8 * count + 1).view(count, 8), dim=1)
    return Prototypes(rows, torch.full((count,), 0.2), torch.arange(count), torch.ones(count), parents)


EXPECTATION = Expectation(
    (clusters(2), clusters(3, torch.tensor([0, 1, 1]))), (torch.tensor([0, 1, 1, 0]), torch.tensor([2, 0, 1, 1]))
)


@pytest.fixture(scope="module")
def learnt() -> tuple[MomentumPair, torch.optim.Optimizer]:
    pair, optimiser = training(0)
    learn(pair, optimiser)
    return pair, optimiser


@pytest.fixture
def saved(tmp_path: Path, learnt: tuple[MomentumPair, torch.optim.Optimizer]) -> Path:
    checkpoint.save(tmp_path, PLACE, *learnt, EXPECTATION)
    return tmp_path


def everything(pair: MomentumPair, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    states = optimiser.state_dict()["state"].items()
    kept = {f"{i}.{what}": value for i, state in states for what, value in state.items()}
    return {name: value.clone() for name, value in (pair.state_dict() | kept).items()}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in expected if not found[name].equal(expected[name])] == []


KEPT = {"sgd": {"momentum_buffer"}, "lars": {"momentum_buffer"}, "adamw": {"step", "exp_avg", "exp_avg_sq"}}


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_weights_queue_and_optimiser_come_back(tmp_path: Path, optimiser: str) -> None:
    through = training(0, optimiser)
    learn(*through)
    assert all(set(state) == KEPT[optimiser] for state in through[1].state_dict()["state"].values())
    checkpoint.save(tmp_path, PLACE, *through, None)
    other = training(1, optimiser)
    assert not other[0].queue.rows.equal(through[0].queue.rows)
    checkpoint.restore(tmp_path, *other, CPU)
    assert_equal(everything(*other), everything(*through))
    for _ in range(2):
        learn(*other)
        learn(*through)
    assert_equal(everything(*other), everything(*through))


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_without_its_optimisers_state_a_run_goes_elsewhere(optimiser: str) -> None:
    """So the test above would not pass if nothing of it came back."""
    through = training(0, optimiser)
    learn(*through)
    forgetful = training(1, optimiser)
    forgetful[0].load_state_dict(through[0].state_dict())
    for each in (forgetful, through):
        learn(*each)
    pairs = zip(forgetful[0].query.parameters(), through[0].query.parameters(), strict=True)
    assert not all(mine.equal(other) for mine, other in pairs)


def test_restored_momenta_lie_in_memory_as_their_parameters_do(saved: Path) -> None:
    pair, optimiser = training(1)
    checkpoint.restore(saved, pair, optimiser, CPU)
    assert all("momentum_buffer" in optimiser.state[p] for p in pair.query.parameters())
    layouts = [(p.stride(), optimiser.state[p]["momentum_buffer"].stride()) for p in pair.query.parameters()]
    assert all(weight == momentum for weight, momentum in layouts)


def test_prototypes_and_assignments_come_back(saved: Path) -> None:
    found = checkpoint.restore(saved, *training(1), CPU)
    assert found is not None
    pairs = zip(found.assignments, EXPECTATION.assignments, strict=True)
    assert all(mine.equal(other) for mine, other in pairs)
    for mine, other in zip(found.prototypes, EXPECTATION.prototypes, strict=True):
        for name, value in other.__dict__.items():
            restored = getattr(mine, name)
            assert restored is None if value is None else restored.equal(value), name


def test_before_the_first_e_step_there_are_no_prototypes(tmp_path: Path) -> None:
    pair, optimiser = training(0)
    checkpoint.save(tmp_path, PLACE, pair, optimiser, None)
    restored = training(1)
    assert checkpoint.restore(tmp_path, *restored, CPU) is None
    assert restored[1].state_dict()["state"] == {}  # nor a momentum before the first step


def test_the_place_comes_back_exactly(saved: Path) -> None:
    assert checkpoint.read_place(saved, "abc") == PLACE


def test_nothing_but_the_checkpoint_is_left_and_it_is_no_pickle(saved: Path) -> None:
    assert [path.name for path in saved.iterdir()] == [NAME]
    assert {"pair.queue.rows", "prototypes.1.parents", "assignment.0"} < load_file(saved / NAME).keys()


FAILURES: list[tuple[Exception, str]] = [
    (OSError(errno.ENOSPC, "No space left on device"), "[Errno 28] No space left on device"),
    (SafetensorError("I/O error: No space left on device"), "I/O error: No space left on device"),
]


@pytest.mark.parametrize(("failure", "reason"), FAILURES, ids=["system", "safetensors"])
def test_a_failing_write_leaves_the_checkpoint_before(
    saved: Path,
    learnt: tuple[MomentumPair, torch.optim.Optimizer],
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    reason: str,
) -> None:
    def write_half(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        path.write_bytes(b"half")
        raise failure

    before = (saved / NAME).read_bytes()
    monkeypatch.setattr(checkpoint, "save_file", write_half)
    with pytest.raises(TrainingFailed) as failed:
        checkpoint.save(saved, Place(4, 0, 1.0, "abc"), *learnt, None)
    assert str(failed.value) == (
        f"the checkpoint could not be written to '{saved}' ({reason}). What was saved before still stands: --resume."
    )
    assert (saved / NAME).read_bytes() == before
    assert [path.name for path in saved.iterdir()] == [NAME]


def test_a_crash_between_writing_and_renaming_leaves_the_checkpoint_before(
    saved: Path, learnt: tuple[MomentumPair, torch.optim.Optimizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(path: Path) -> None:
        assert path.name != NAME, "synced before it is renamed"
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "sync", crash)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(saved, Place(4, 0, 1.0, "abc"), *learnt, None)
    assert checkpoint.read_place(saved, "abc") == PLACE
    checkpoint.save(saved, Place(4, 0, 1.0, "abc"), *learnt, None)  # what the crash left is in nobody's way
    assert checkpoint.read_place(saved, "abc").epoch == 4
    assert [path.name for path in saved.iterdir()] == [NAME]


def test_a_run_folder_that_is_gone_is_one_line(
    tmp_path: Path, learnt: tuple[MomentumPair, torch.optim.Optimizer]
) -> None:
    with pytest.raises(TrainingFailed, match="the checkpoint could not be written to"):
        checkpoint.save(tmp_path / "gone", PLACE, *learnt, None)


def refusal(run: Path, images: str = "abc") -> str:
    with pytest.raises(UsageError) as refused:
        checkpoint.read_place(run, images)
    return str(refused.value)


def test_without_a_checkpoint_there_is_nothing_to_resume(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"nothing to resume: '{tmp_path / NAME}' does not exist. Start anew with --overwrite."


def test_other_images_are_refused(saved: Path) -> None:
    assert refusal(saved, "xyz") == (
        f"the images are not those that '{saved}' was started with. Start anew with --overwrite."
    )


def test_a_damaged_checkpoint_is_refused(saved: Path) -> None:
    path = saved / NAME
    for content in (path.read_bytes()[:1000], b"", b"\x00" * 100):
        path.write_bytes(content)
        assert refusal(saved).startswith(f"'{path}' cannot be read (")
        assert refusal(saved).endswith("). Start anew with --overwrite.")


@pytest.mark.parametrize(
    ("metadata", "found"), [({"format": "1", "place": "{}"}, "1"), ({"other": "x"}, "None"), (None, "None")]
)
def test_another_format_is_refused(tmp_path: Path, metadata: Any, found: str) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / NAME, metadata)
    assert refusal(tmp_path) == (
        f"'{tmp_path / NAME}' is of format {found}, this version reads 2. Start anew with --overwrite."
    )
