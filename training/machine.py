"""What a machine holds, as far as training asks; and the one line for what it cannot do."""

from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import shorten
from typing import NamedTuple

import torch

from pauc_hub import memory
from pauc_hub.device import choose_device, choose_precision
from pauc_hub.errors import TrainingFailed, UsageError
from pauc_hub.training.config import Config

TRAINED_ON = ("cpu", "cuda")  # others lack float64, which k-means sums in
LONGEST = 200  # characters of what the compiler says
COMPILER = ("torch._dynamo", "torch._inductor")  # the modules of all that it raises


class Machine(NamedTuple):
    """Where a run takes place.

    Attributes:
        gpu: whether there is one to train on.
        memory: bytes, the GPU's own or else those of the machine that this process may have.
        wide: numbers of its matrix products take four bytes each, not two.
    """

    gpu: bool
    memory: int
    wide: bool


def device_to_train_on(name: str = "auto") -> torch.device:
    """As choose_device() chooses.

    Raises:
        UsageError: it is not on this machine, or nothing can be trained on it.
    """
    device = choose_device(name)
    if device.type not in TRAINED_ON:
        raise UsageError(
            f"device='{name}': training runs on {' and '.join(TRAINED_ON)} alone. `pauc embed` "
            "runs there."
        )
    return device


def machine_of(device: torch.device) -> Machine:
    wide = choose_precision("auto", device) is torch.float32
    if device.type == "cuda":
        return Machine(True, torch.cuda.get_device_properties(device).total_memory, wide)
    return Machine(False, memory.total_memory(), wide)


def free_device_memory(device: torch.device) -> int:
    """Bytes that nobody uses, the GPU's own or else the machine's."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return memory.free_memory()


@contextmanager
def limits_explained(config: Config) -> Iterator[None]:
    """Raise TrainingFailed where the GPU cannot hold a step, or torch.compile cannot build one."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingFailed(
            f"a batch of {config.batch_size} images of {config.size} pixels does not fit the GPU. "
            f"Start anew with less than batch_size={config.batch_size} or size={config.size}, a "
            "smaller architecture, "
            f"or accumulate={2 * config.accumulate}."
        ) from error
    except RuntimeError as error:
        if not config.compile or not type(error).__module__.startswith(COMPILER):
            raise
        # who failed, and how
        said = shorten(" ".join(str(error).splitlines()[:2]), LONGEST, placeholder=" …")
        reason = said or type(error).__name__
        raise TrainingFailed(
            f"torch.compile failed ({reason}). Start anew with compile=False."
        ) from error
