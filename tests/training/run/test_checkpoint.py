"""Checkpoints: what is saved comes back, a damaged one is told of and passed over, and a wrong one
is refused.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from pauc_hub.clustering.prototypes import Prototypes
from pauc_hub.errors import TrainingFailed, UsageError
from pauc_hub.training.config import Config
from pauc_hub.training.config_limits import OPTIMISERS
from pauc_hub.training.estep import Expectation
from pauc_hub.training.networks.encoder import MomentumPair
from pauc_hub.training.optimiser import new_optimiser
from pauc_hub.training.run import checkpoint, checkpoint_files
from pauc_hub.training.run.checkpoint import Place

CPU = torch.device("cpu")
PLACE = Place(
    3, 7, 12.5, "abc", command="pauc train photos -o run", watched={"intra_share": 0.1 + 0.2}
)
LATER = Place(4, 0, 20.0, "abc")


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
    pair.queue.push(torch.eye(8)[:4], torch.arange(10, 14))


def clusters(count: int, parents: Tensor | None = None) -> Prototypes:
    rows = torch.nn.functional.normalize(torch.arange(1.0, 8 * count + 1).view(count, 8), dim=1)
    return Prototypes(
        rows, torch.full((count,), 0.2), torch.arange(count), torch.ones(count), parents
    )


EXPECTATION = Expectation(
    (clusters(2), clusters(3, torch.tensor([0, 1, 1]))),
    (torch.tensor([0, 1, 1, 0]), torch.tensor([2, 0, 1, 1])),
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


KEPT = {
    "sgd": {"momentum_buffer"},
    "lars": {"momentum_buffer"},
    "adamw": {"step", "exp_avg", "exp_avg_sq"},
}


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_weights_queue_and_optimiser_come_back(tmp_path: Path, optimiser: str) -> None:
    through = training(0, optimiser)
    learn(*through)
    assert all(set(state) == KEPT[optimiser] for state in through[1].state_dict()["state"].values())
    checkpoint.save(tmp_path, PLACE, *through, None)
    other = training(1, optimiser)
    assert not other[0].queue.rows.equal(through[0].queue.rows)
    assert not other[0].queue.index.equal(through[0].queue.index)
    checkpoint.restore(tmp_path, PLACE, *other, CPU)
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
    checkpoint.restore(saved, PLACE, pair, optimiser, CPU)
    assert all("momentum_buffer" in optimiser.state[p] for p in pair.query.parameters())
    layouts = [
        (p.stride(), optimiser.state[p]["momentum_buffer"].stride())
        for p in pair.query.parameters()
    ]
    assert all(weight == momentum for weight, momentum in layouts)


def test_prototypes_and_assignments_come_back(saved: Path) -> None:
    found = checkpoint.restore(saved, PLACE, *training(1), CPU)
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
    assert checkpoint.restore(tmp_path, PLACE, *restored, CPU) is None
    assert restored[1].state_dict()["state"] == {}  # nor a momentum before the first step


def test_the_place_comes_back_exactly(saved: Path) -> None:
    assert checkpoint.read_place(saved, "abc") == PLACE


def test_nothing_but_the_checkpoint_is_left_and_it_is_no_pickle(saved: Path) -> None:
    assert [path.name for path in saved.iterdir()] == ["checkpoints"]
    assert [path.name for path in (saved / "checkpoints").iterdir()] == [
        "00003-0000007.safetensors"
    ]
    found = load_file(saved / "checkpoints" / "00003-0000007.safetensors")
    assert {"pair.queue.rows", "prototypes.1.parents", "assignment.0"} < found.keys()


def test_a_run_folder_that_is_gone_is_one_line(
    tmp_path: Path, learnt: tuple[MomentumPair, torch.optim.Optimizer]
) -> None:
    run = tmp_path / "gone"
    with pytest.raises(TrainingFailed) as failed:
        checkpoint.save(run, PLACE, *learnt, None)
    assert str(failed.value) == (
        f"the checkpoint could not be written to '{run}' ([Errno 2] No such file or directory: "
        f"'{run / 'checkpoints'}'). What was saved before still stands: resume=True."
    )


def refusal(run: Path, images: str = "abc") -> str:
    with pytest.raises(UsageError) as refused:
        checkpoint.read_place(run, images)
    return str(refused.value)


def test_before_the_first_checkpoint_there_is_no_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checkpoint.read_place(tmp_path, "abc", quiet=True) is None
    assert capsys.readouterr().err == ""
    assert checkpoint.read_place(tmp_path, "abc") is None
    assert capsys.readouterr().err == (
        f"warning: '{tmp_path}' was stopped before its first checkpoint; beginning at the start\n"
    )


def test_other_images_are_refused(saved: Path) -> None:
    assert refusal(saved, "xyz") == (
        f"the images are not those that '{saved}' was started with. Start anew with overwrite=True."
    )


def test_another_format_is_refused(
    saved: Path, learnt: tuple[MomentumPair, torch.optim.Optimizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "CHECKPOINT_FORMAT", 77)
        checkpoint.save(saved, LATER, *learnt, None)
    assert refusal(saved) == (
        f"'{checkpoint_files.path_at(saved, (4, 0))}' is of format 77, this version reads "
        f"{checkpoint.CHECKPOINT_FORMAT}. "
        "Start anew with overwrite=True."
    )


def test_whoever_torchrun_started_again_is_told_by_its_name(
    tmp_path: Path, learnt: tuple[MomentumPair, torch.optim.Optimizer]
) -> None:
    assert not checkpoint.written_under(tmp_path, "photos")  # nothing was saved yet
    for moment, launch in enumerate(("", "photos")):
        checkpoint.save(tmp_path, Place(1, moment, 0.0, "abc", launch=launch), *learnt, None)
        assert not checkpoint.written_under(tmp_path, "")
        assert not checkpoint.written_under(tmp_path, "other")
        assert checkpoint.written_under(tmp_path, "photos") == (launch == "photos")
    checkpoint_files.standing(tmp_path)[0].write_bytes(b"")
    assert not checkpoint.written_under(tmp_path, "photos")


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda data: data[:-100],
    "cut in the header": lambda data: data[:1000],
    "empty": lambda _: b"",
    "zeros": lambda data: bytes(len(data)),
    "one bit of a weight": lambda data: data[:-5000] + bytes([data[-5000] ^ 4]) + data[-4999:],
    "another place": lambda data: data.replace(b'\\"epoch\\": 4', b'\\"epoch\\": 9'),
    "another name": lambda data: data.replace(b"pair.queue.rows", b"pair.queue.rowz"),
    "no sum": lambda data: data.replace(b'"sha256"', b'"sha255"'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_told_of_and_the_one_before_stands_in(
    saved: Path,
    learnt: tuple[MomentumPair, torch.optim.Optimizer],
    capsys: pytest.CaptureFixture[str],
    damage: str,
) -> None:
    checkpoint.save(saved, LATER, *learnt, None)
    assert checkpoint.read_place(saved, "abc") == LATER
    assert capsys.readouterr().err == ""
    path = checkpoint_files.path_at(saved, (4, 0))
    before = path.read_bytes()
    path.write_bytes(DAMAGES[damage](before))
    assert path.read_bytes() != before
    assert checkpoint.read_place(saved, "abc") == PLACE
    warning = capsys.readouterr().err
    assert warning.startswith(f"warning: '{path}' is damaged (")
    assert warning.endswith("); going on from the checkpoint before it, at epoch 4, step 7\n")
    assert warning.count("\n") == 1
    assert checkpoint.read_place(saved, "abc", quiet=True) == PLACE
    assert capsys.readouterr().err == ""


def test_what_comes_after_a_damaged_one_takes_its_place(
    saved: Path,
    learnt: tuple[MomentumPair, torch.optim.Optimizer],
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint.save(saved, LATER, *learnt, None)
    checkpoint_files.path_at(saved, (4, 0)).write_bytes(b"")
    between = Place(3, 8, 21.0, "abc")
    checkpoint.save(saved, between, *learnt, None)
    assert checkpoint.read_place(saved, "abc") == between
    assert capsys.readouterr().err == ""


def test_without_a_whole_one_the_run_cannot_go_on(
    saved: Path, learnt: tuple[MomentumPair, torch.optim.Optimizer]
) -> None:
    checkpoint.save(saved, LATER, *learnt, None)
    for path in checkpoint_files.standing(saved):
        path.write_bytes(path.read_bytes().replace(b"pair.queue.rows", b"pair.queue.rowz"))
    assert refusal(saved) == (
        f"'{checkpoint_files.path_at(saved, (4, 0))}' is damaged (its checksum does not match), "
        "and no other checkpoint is whole. Start anew with overwrite=True."
    )
