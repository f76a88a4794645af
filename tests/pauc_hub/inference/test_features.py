"""The loop from batches to rows: in order, the next one under way, nothing after a failure."""

import threading

import pytest
import torch
from torch import Tensor

from pauc_hub.errors import PaucError
from pauc_hub.images.preprocessing import Preprocessing
from pauc_hub.inference.features import encode_squares, features


@pytest.mark.parametrize("lanes", [0, 1, 3])
def test_rows_come_in_order_beside_their_batches(lanes: int) -> None:
    found = list(features(lambda item: torch.full((2, 3), -item), range(20), lanes=lanes))
    assert [(int(rows[1, 2]), batch) for rows, batch in found] == [
        (-item, item) for item in range(20)
    ]


def test_with_a_lane_the_next_batch_is_under_way_before_one_is_taken() -> None:
    begun = [threading.Event() for _ in range(4)]

    def encode(item: int) -> Tensor:
        begun[item].set()
        return torch.tensor([item])

    for rows, _ in features(encode, range(4), lanes=1):
        assert begun[min(int(rows) + 1, 3)].wait(timeout=10)


def test_without_lanes_a_batch_is_encoded_here_when_it_is_asked_for() -> None:
    threads: list[threading.Thread] = []

    def encode(item: int) -> Tensor:
        threads.append(threading.current_thread())
        return torch.tensor([item])

    results = features(encode, range(4))
    next(results)
    assert threads == [threading.current_thread()]


@pytest.mark.parametrize("lanes", [0, 1])
def test_what_goes_wrong_in_a_batch_is_raised_and_nothing_goes_on(lanes: int) -> None:
    begun: list[int] = []

    def encode(item: int) -> Tensor:
        begun.append(item)
        if item == 2:
            raise PaucError("too large")
        return torch.tensor([item])

    results = features(encode, range(100), lanes=lanes)
    assert [next(results)[1], next(results)[1]] == [0, 1]
    with pytest.raises(PaucError, match="too large"):
        next(results)
    assert len(begun) <= 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_squares_are_normalised_and_rows_are_float32(dtype: torch.dtype) -> None:
    seen: list[Tensor] = []

    def network(pixels: Tensor) -> Tensor:
        seen.append(pixels)
        return pixels.mean(dim=(2, 3))

    shown = Preprocessing(size=2, mean=(0.5, 0.0, 0.0), std=(0.5, 1.0, 2.0))
    squares = torch.full((3, 2, 2, 3), 255, dtype=torch.uint8)
    rows = encode_squares(network, squares, shown, torch.device("cpu"), dtype)
    assert rows.dtype is torch.float32
    assert seen[0].dtype is dtype
    assert seen[0].shape == (3, 3, 2, 2)
    assert rows.tolist() == [[1.0, 1.0, 0.5]] * 3
