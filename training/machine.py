"""What a machine holds, as far as training asks; and the one line for what it cannot do."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import torch

from pauc_hub.device import choose_precision
from pauc_hub.errors import TrainingFailed
from pauc_hub.training.config import Config

COMPILER = ("torch._dynamo", "torch._inductor")  # the modules of all that it raises


class Machine(NamedTuple):
    """Where a run takes place.

    Attributes:
        gpu: whether there is one to train on.
        memory: bytes, the GPU's own or else the machine's.
        wide: numbers of its matrix products take four bytes each, not two.
    """

    gpu: bool
    memory: int
    wide: bool


def machine_of(device: torch.device) -> Machine:
    wide = choose_precision("auto", device) is torch.float32
    if device.type == "cuda":
        return Machine(True, torch.cuda.get_device_properties(device).total_memory, wide)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(device.type != "cpu", memory, wide)


def free_memory(device: torch.device) -> int:
    """Bytes that nobody uses, the GPU's own or else the machine's."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    with suppress(OSError, StopIteration), Path("/proc/meminfo").open(encoding="ascii") as lines:
        available = next(line for line in lines if line.startswith("MemAvailable:"))
        return int(available.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2  # a guess where the system does not tell


@contextmanager
def limits_explained(config: Config) -> Iterator[None]:
    """Raise TrainingFailed where the GPU cannot hold a step, or torch.compile cannot build one."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingFailed(
            f"a batch of {config.batch_size} images of {config.size} pixels does not fit the GPU. "
            "Start anew with a smaller --batch-size, --size or --architecture, or with accumulate in a --config."
        ) from error
    except RuntimeError as error:
        if not config.compile or not type(error).__module__.startswith(COMPILER):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TrainingFailed(f"compile = true cannot be had here ({reason}). Start anew without it.") from error
