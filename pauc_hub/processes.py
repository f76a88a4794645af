"""Which of several processes this is, as torchrun numbers them in the environment, and its share of
the machine.
"""

import os
from dataclasses import dataclass
from typing import Self

from pauc_hub.errors import UsageError

MAX_WORKERS = 32


@dataclass(frozen=True)
class Ranks:
    """This process among its fellows, as torchrun numbers them."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1

    @classmethod
    def from_environment(cls) -> Self:
        """By RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE, which torchrun sets; one process
        without them.

        Raises:
            UsageError: they are no numbers, or do not fit each other.
        """
        count = _number("WORLD_SIZE", 1)
        ranks = cls(
            _number("RANK", 0), count, _number("LOCAL_RANK", 0), _number("LOCAL_WORLD_SIZE", 1)
        )
        if not 0 <= ranks.rank < count:
            raise UsageError(
                f"RANK {ranks.rank} is not one of WORLD_SIZE {count}: 0 to {count - 1}."
            )
        return ranks

    @property
    def restarts(self) -> int:
        """How often torchrun has started the same command again, after one of this machine's
        processes ended.
        """
        return _number("TORCHELASTIC_RESTART_COUNT", 0)

    @property
    def launch(self) -> str:
        """What torchrun calls the processes that it keeps alive, over all restarts and machines;
        empty without it.
        """
        name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
        return "" if name == "none" else name  # what it says where nobody named them

    @property
    def several(self) -> bool:
        return self.count > 1

    def device(self, name: str) -> str:
        """`auto` and `cuda` are a GPU of its own for each process of a machine."""
        import torch  # takes seconds

        if not self.several or name not in ("auto", "cuda") or not torch.cuda.is_available():
            return name
        return f"cuda:{self.local_rank % torch.cuda.device_count()}"

    def workers(self) -> int:
        """Decoding threads: the cores shared with the other processes of the machine."""
        return max(1, default_workers() // self.local_count)


def default_workers() -> int:
    """One a core that this process may use."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return min(cores, MAX_WORKERS)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{name} is '{text}' in the environment, not a number.") from None
