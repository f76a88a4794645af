"""Which of several processes this is, and what follows from it."""

import pytest

from pauc_hub.errors import UsageError
from pauc_hub.processes import Ranks


def test_one_process_without_a_word_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    ranks = Ranks.from_environment()
    assert ranks == Ranks(0, 1, 0, 1)
    assert not ranks.several
    assert ranks.device("auto") == "auto"


def test_torchruns_numbers_number_the_processes_and_share_the_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {"RANK": 3, "WORLD_SIZE": 4, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    ranks = Ranks.from_environment()
    assert ranks == Ranks(3, 4, 1, 2)
    for cores, workers in [(1, 1), (2, 1), (3, 1), (16, 8)]:
        monkeypatch.setattr("pauc_hub.processes.default_workers", lambda cores=cores: cores)
        assert ranks.workers() == workers


@pytest.mark.parametrize(
    ("rank", "count", "message"),
    [
        ("4", "4", "RANK 4 is not one of WORLD_SIZE 4: 0 to 3."),
        ("-1", "4", "RANK -1 is not one of WORLD_SIZE 4: 0 to 3."),
        ("0", "two", "WORLD_SIZE is 'two' in the environment, not a number."),
    ],
)
def test_numbers_that_do_not_fit_are_refused(
    monkeypatch: pytest.MonkeyPatch, rank: str, count: str, message: str
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", count)
    with pytest.raises(UsageError) as refusal:
        Ranks.from_environment()
    assert str(refusal.value) == message


def test_each_process_of_a_machine_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert [Ranks(rank, 6, rank % 3, 3).device("auto") for rank in range(3)] == [
        "cuda:0",
        "cuda:1",
        "cuda:0",
    ]
    assert Ranks(1, 6, 1, 3).device("cpu") == "cpu"
    assert Ranks(1, 6, 1, 3).device("cuda:0") == "cuda:0"
    assert Ranks().device("cuda") == "cuda"


@pytest.mark.parametrize(("count", "restarts"), [(None, 0), ("0", 0), ("2", 2)])
def test_torchrun_tells_how_often_it_has_started_a_command_again(
    monkeypatch: pytest.MonkeyPatch, count: str | None, restarts: int
) -> None:
    monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT", raising=False)
    if count is not None:
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", count)
    assert Ranks().restarts == restarts


@pytest.mark.parametrize(("name", "launch"), [(None, ""), ("none", ""), ("photos", "photos")])
def test_what_torchrun_was_told_to_call_its_processes(
    monkeypatch: pytest.MonkeyPatch, name: str | None, launch: str
) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    if name is not None:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", name)
    assert Ranks().launch == launch
