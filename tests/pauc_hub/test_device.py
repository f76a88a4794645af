"""Device and precision: what `auto` means on which hardware, and what is refused in one line."""

from typing import Any

import pytest
import torch

from pauc_hub import device as module
from pauc_hub.device import (
    autocast,
    choose_device,
    choose_precision,
    has_native_bf16,
    keep_freed_memory,
    side_by_side,
)
from pauc_hub.errors import UsageError

CPU, GPU, APPLE = torch.device("cpu"), torch.device("cuda"), torch.device("mps")


@pytest.mark.parametrize(("found", "device"), [(True, GPU), (False, CPU)])
def test_auto_is_the_gpu_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, found: bool, device: torch.device
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: found)
    assert choose_device() == choose_device("auto") == device


def test_the_cpu_can_be_chosen() -> None:
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "", "cpu:x", "mps", "xpu", "meta"])
def test_a_device_that_is_not_here_is_one_line(name: str) -> None:
    with pytest.raises(UsageError) as refused:
        choose_device(name)
    message = str(refused.value)
    assert message.startswith(f"device={name} cannot be used here (")
    assert message.endswith("). Use `auto` or `cpu`.")
    assert "\n" not in message
    assert len(message) < 200


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_can_be_chosen_by_number() -> None:
    assert choose_device("cuda:0") == torch.device("cuda:0")


@pytest.mark.parametrize(
    ("capability", "native"),
    [((7, 0), False), ((7, 5), False), ((8, 0), True), ((8, 9), True), ((9, 0), True)],
)
def test_gpus_multiply_bf16_from_ampere_on(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], native: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert has_native_bf16(GPU) is native
    assert choose_precision("auto", GPU) is (torch.bfloat16 if native else torch.float32)


@pytest.mark.parametrize(
    ("capabilities", "native"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({"avx2": True, "avx512_bf16": False}, False),
        ({}, False),
    ],
)
def test_cpus_multiply_bf16_with_the_units_for_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, Any], native: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert has_native_bf16(CPU) is native
    assert choose_precision("auto", CPU) is (torch.bfloat16 if native else torch.float32)


def test_other_hardware_is_taken_to_have_none() -> None:
    assert not has_native_bf16(APPLE)


def test_a_precision_can_be_chosen_on_any_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    for native in (False, True):
        monkeypatch.setattr(module, "has_native_bf16", lambda device, native=native: native)
        assert choose_precision("fp32", CPU) is torch.float32
        assert choose_precision("bf16", CPU) is torch.bfloat16


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UsageError) as refused:
        choose_precision("fp16", CPU)
    assert str(refused.value) == "unknown precision 'fp16'. Use one of auto, fp32, bf16."


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_matrix_products_are_made_in_the_precision_chosen(dtype: torch.dtype) -> None:
    left, right = torch.rand(3, 4), torch.rand(4, 2)
    with autocast(CPU, dtype):
        assert (left @ right).dtype is dtype
        assert (left + left).dtype is torch.float32
    assert (left @ right).dtype is torch.float32


def test_without_glibc_memory_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    monkeypatch.setattr("ctypes.CDLL", None)
    keep_freed_memory()


def test_glibc_accepts_both_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked of a stand-in: the setting is the process's, and the tests that follow should not feel
    it.
    """
    asked = []

    class Library:
        def mallopt(self, name: int, value: int) -> int:
            asked.append((name, value))
            return 1

    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr("ctypes.CDLL", lambda name: Library())
    keep_freed_memory()
    assert sorted(asked) == [(-3, 1 << 30), (-1, 2147479551)]
    assert all(0 < value < 2**31 for _, value in asked)  # mallopt takes an int


def test_lanes_share_the_threads_of_a_cpu_and_leave_a_gpu_alone() -> None:
    before = torch.get_num_threads()
    try:
        for threads, lanes, each in [
            (1, 1, 1),
            (2, 2, 1),
            (3, 3, 1),
            (4, 4, 1),
            (9, 4, 2),
            (16, 4, 4),
        ]:
            torch.set_num_threads(threads)
            with side_by_side(torch.device("cuda")) as found:
                assert (found, torch.get_num_threads()) == (1, threads)
            with side_by_side(torch.device("cpu")) as found:
                assert (found, torch.get_num_threads()) == (lanes, each)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
