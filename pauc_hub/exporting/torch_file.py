"""torch's own files, for torch.export.load(). n images, S side."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.export import ExportedProgram

from pauc_hub.errors import PaucError
from pauc_hub.exporting.parity import Outputs
from pauc_hub.exporting.takes import Takes
from pauc_hub.exporting.tracing import reason, silence

FACTS_FILE = "pauc.json"
"""The extra file in which it says what made it."""


@dataclass(eq=False)
class TorchFile:
    """A file in memory."""

    program: ExportedProgram
    takes: Takes
    outputs: Sequence[str]

    def run(self) -> "TorchSession":
        """Ready to run on the CPU, from its bytes.

        Raises:
            PaucError: torch does not take the file.
        """
        return TorchSession(self._bytes("{}"), self.takes, self.outputs)

    def finished(self, facts: str) -> bytes:
        """The file's bytes, with JSON facts beside the program."""
        return self._bytes(facts)

    def _bytes(self, facts: str) -> bytes:
        file = io.BytesIO()
        with silence():
            torch.export.save(self.program, file, extra_files={FACTS_FILE: facts})
        return file.getvalue()


class TorchSession:
    """Squares to outputs, by torch."""

    def __init__(self, data: bytes, takes: Takes, outputs: Sequence[str]) -> None:
        try:
            with silence():
                self.module: Any = torch.export.load(io.BytesIO(data)).module()
        except Exception as error:
            raise PaucError(
                f"torch does not take the exported file ({reason(error)}). It was not kept."
            ) from error
        self.takes = takes
        self.names = outputs

    def __call__(self, squares: npt.NDArray[np.uint8]) -> Outputs:
        with torch.inference_mode():
            found = self.module(torch.from_numpy(self.takes.feed(squares)))
        return {name: values.numpy() for name, values in zip(self.names, found, strict=True)}
