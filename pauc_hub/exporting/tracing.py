"""From a network in torch to a traced program, of which files are made. S side."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from pauc_hub.errors import PaucError, UsageError

# Batch of the example that is traced: with one image torch takes the batch for a constant
# (pytorch#157621).
EXAMPLE_BATCH = 2


def trace(graph: nn.Module, example: torch.Tensor, *, dynamic_size: bool) -> ExportedProgram:
    """Trace a graph with a free batch, and free height and width where they are asked for.

    Args:
        example: (EXAMPLE_BATCH, 3, S, S) float32, or (EXAMPLE_BATCH, S, S, 3) uint8.

    Raises:
        UsageError: the network takes one size only, and others were asked for.
        PaucError: torch cannot trace it.
    """
    free: dict[int, Any] = {0: Dim("batch")}
    if dynamic_size:
        height, width = (1, 2) if example.dtype is torch.uint8 else (2, 3)
        # torch finds out by itself how small they may be
        free |= {height: Dim.DYNAMIC, width: Dim.DYNAMIC}
    try:
        with silence(), unlogged(logging.ERROR):
            return torch.export.export(graph, (example,), dynamic_shapes=(free,), strict=False)
    except Exception as error:
        if dynamic_size:
            raise UsageError(
                f"dynamic_size=True does not suit this network ({reason(error)}). Leave it out, "
                "and export one file for each size: image_size=N."
            ) from error
        raise PaucError(f"torch cannot trace this network for export ({reason(error)}).") from error


def reason(error: BaseException) -> str:
    """One line of what may be many."""
    return (" ".join(str(error).split()) or type(error).__name__)[:200]


@contextmanager
def unlogged(level: int) -> Iterator[None]:
    """Without what is logged up to a level: torch logs at length what it then raises, and
    onnxruntime gives advice.
    """
    before = logging.root.manager.disable
    logging.disable(level)
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def silence() -> Iterator[None]:
    """The exporters warn of their own future."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        yield
