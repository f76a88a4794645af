"""Threads that fill batches: order whatever they do, a few ahead, none left behind."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing

import pytest
import torch
from torch import Tensor

from pauc_hub.device import send
from pauc_hub.training.data.ahead import MOST_WAITING, fill_ahead, send_ahead

CPU = torch.device("cpu")
Job = tuple[Sequence[int], tuple[Tensor, ...]]


def jobs(batches: Sequence[Sequence[int]]) -> Iterator[Job]:
    return ((batch, (torch.zeros(len(batch)), torch.zeros(len(batch), 2))) for batch in batches)


def write(batch: Sequence[int], room: tuple[Tensor, ...], row: int) -> None:
    room[0][row], room[1][row] = batch[row], 1 / batch[row]


def decoders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_rows_and_batches_keep_their_order_for_any_number_of_workers(workers: int) -> None:
    batches = [[9, 4, 7, 1, 3], [2], [], [5, 6]] + [[i, i + 1] for i in range(1, 20)]
    found = list(send_ahead(fill_ahead(jobs(batches), write, workers), CPU))
    assert [batch for batch, _ in found] == batches
    assert [values.tolist() for _, (values, _) in found] == batches
    assert found[0][1][1].equal(torch.tensor([[1 / i] * 2 for i in batches[0]]))


def test_threads_stay_a_few_batches_ahead() -> None:
    started: list[int] = []

    def note(batch: Sequence[int], _: tuple[Tensor, ...], row: int) -> None:
        started.append(batch[row])

    with closing(fill_ahead(jobs([[i] for i in range(50)]), note, 2)) as filled:
        for wanted in range(3):
            assert next(filled)[0] == [wanted]
            assert max(started) <= wanted + MOST_WAITING


def test_closing_early_leaves_no_threads() -> None:
    sent = send_ahead(fill_ahead(jobs([[1, 2]] * 30), write, 3), CPU)
    next(sent)
    assert decoders()
    sent.close()
    assert decoders() == []


def test_a_failure_in_a_thread_reaches_the_reader_and_leaves_no_threads() -> None:
    with pytest.raises(ZeroDivisionError):
        list(fill_ahead(jobs([[1, 2], [0, 3], [4]]), write, 2))
    assert decoders() == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_what_arrives_on_a_gpu_is_what_was_sent() -> None:
    device = torch.device("cuda")
    batches = [[i + 1] * 10_000 for i in range(20)]
    for batch, (values, inverse) in send_ahead(fill_ahead(jobs(batches), write, 4), device):
        assert values.is_cuda
        assert values.tolist() == batch
        assert inverse.sum().item() == pytest.approx(20_000 / batch[0], rel=1e-3)
    assert send(torch.arange(5), device).tolist() == list(range(5))
