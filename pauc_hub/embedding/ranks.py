"""Several processes at one source: which of them this is, and the part that is its own.

They never speak to each other: each embeds a stretch of the images into a part of its own, so none waits for another,
none needs a port, and one that dies is started again by itself.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pauc_hub.errors import OutputExists, UsageError
from pauc_hub.sources import Source
from pauc_hub.tables.table import PARQUET


@dataclass(frozen=True)
class Ranks:
    """This process among its fellows, as torchrun numbers them."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1

    @classmethod
    def from_environment(cls) -> Self:
        """By RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE, which torchrun sets; one process without them.

        Raises:
            UsageError: they are no numbers, or do not fit each other.
        """
        count = _number("WORLD_SIZE", 1)
        ranks = cls(_number("RANK", 0), count, _number("LOCAL_RANK", 0), _number("LOCAL_WORLD_SIZE", 1))
        if not 0 <= ranks.rank < count:
            raise UsageError(f"RANK {ranks.rank} is not one of WORLD_SIZE {count}: 0 to {count - 1}.")
        return ranks

    @property
    def restarts(self) -> int:
        """How often torchrun has started the same command again, after one of this machine's processes ended."""
        return _number("TORCHELASTIC_RESTART_COUNT", 0)

    @property
    def launch(self) -> str:
        """What torchrun calls the processes that it keeps alive, over all restarts and machines; empty without it."""
        name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
        return "" if name == "none" else name  # what it says where nobody named them

    @property
    def several(self) -> bool:
        return self.count > 1

    def share(self, source: Source) -> Source:
        """The images that this process embeds."""
        return source.share(self.rank, self.count) if self.several else source

    def place(self, output: Path) -> Path:
        """The table that this process writes: `output` itself, or a part of it in a folder of that name, which is made.

        Raises:
            UsageError: `output` cannot be such a folder.
            OutputExists: there is a file, or parts of another number of processes.
        """
        if not self.several:
            return output
        if output.suffix != PARQUET:
            raise UsageError(f"{self.count} processes write parts in {PARQUET} alone; the output is '{output}'.")
        try:
            output.mkdir(exist_ok=True)
        except FileExistsError as error:
            raise OutputExists(f"'{output}' is the table of one process. Name another place.") from error
        except OSError as error:
            raise UsageError(f"'{output}' cannot be made ({error.strerror}). Name another place.") from error
        if strange := [path.name for path in output.glob("part-*") if f"-of-{self.count:05}." not in path.name]:
            raise OutputExists(
                f"'{output}' holds parts of another number of processes ({min(strange)}). Name another place."
            )
        return output / f"part-{self.rank:05}-of-{self.count:05}{PARQUET}"

    def device(self, name: str) -> str:
        """`auto` and `cuda` are a GPU of its own for each process of a machine."""
        import torch  # takes seconds

        if not self.several or name not in ("auto", "cuda") or not torch.cuda.is_available():
            return name
        return f"cuda:{self.local_rank % torch.cuda.device_count()}"

    def workers(self) -> int:
        """Decoding threads: the cores shared with the other processes of the machine."""
        from pauc_hub.inference.streaming import default_workers  # which imports torch

        return max(1, default_workers() // self.local_count)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{name} is '{text}' in the environment, not a number.") from None
