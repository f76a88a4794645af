"""Where and how to compute: device, precision, and an allocator that does not hand memory back all
the time.
"""

import ctypes
import platform
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from pauc_hub.errors import UsageError

PRECISIONS = ("auto", "fp32", "bf16")
# images that go through the network together, by type of device
BATCH_SIZES = defaultdict(lambda: 256, cpu=32)
MOST_LANES = 4  # batches in the network at the same time; each holds its activations


def choose_device(name: str = "auto") -> torch.device:
    """`auto` is the first GPU where there is one, else the CPU; any other name is torch's own
    (`cpu`, `cuda:1`, `mps`).

    Raises:
        UsageError: torch knows no such device, or it is not on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        # further sentences address programmers
        reason = str(error).splitlines()[0].split(". ")[0].rstrip(".")
        if reason.startswith("Expected one of"):
            # a list of 25 kinds of hardware follows
            reason = "there is no such kind of device; GPUs are cuda, cuda:1, …"
        raise UsageError(
            f"device={name} cannot be used here ({reason}). Use `auto` or `cpu`."
        ) from error
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where the hardware multiplies it natively, else float32.

    Raises:
        UsageError: not one of auto, fp32, bf16.
    """
    if name not in PRECISIONS:
        raise UsageError(f"unknown precision '{name}'. Use one of {', '.join(PRECISIONS)}.")
    if name == "auto":
        return torch.bfloat16 if has_native_bf16(device) else torch.float32
    return torch.bfloat16 if name == "bf16" else torch.float32


def has_native_bf16(device: torch.device) -> bool:
    """Emulated bfloat16 is slower than float32, so only real units count."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        found = torch.cpu.get_capabilities()
        return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    return False


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on the device. A GPU is not waited for: from pinned memory it takes the copy in
    its own time.
    """
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return (tensor if tensor.is_pinned() else tensor.pin_memory()).to(device, non_blocking=True)


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """Matrix products in `dtype`; a no-op for float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype is torch.bfloat16)


@contextmanager
def side_by_side(device: torch.device) -> Iterator[int]:
    """Let batches go through the network side by side, each with its own share of torch's threads.

    On a CPU threads that work at one layer together wait for the slowest of them after each, and
    the decoding threads make one of them slow: 2 lanes of 1 thread embed photographs 1.15 times as
    fast as 1 lane of 2 (docs/LOG.md).

    Yields:
        How many batches to launch at the same time; torch's number of threads is as before
        afterwards.
    """
    if device.type != "cpu":
        yield 1
        return
    threads = torch.get_num_threads()
    lanes = min(MOST_LANES, threads)
    torch.set_num_threads(threads // lanes)
    try:
        yield lanes
    finally:
        torch.set_num_threads(threads)


def keep_freed_memory() -> None:
    """Tell glibc not to return large blocks to the kernel after each activation: 1.4 to 1.8 times
    the speed on a CPU.

    For programs (our commands), not for a library inside somebody else's process. Does nothing
    without glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    libc = ctypes.CDLL(None)
    libc.mallopt(mmap_threshold, 1 << 30)
    libc.mallopt(trim_threshold, 2**31 - 4097)  # the largest multiple of a page that fits an int
