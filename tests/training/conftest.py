"""Shared by the tests of training: small pictures, folders and tars of them, and batches as they
are drawn.
"""

from collections.abc import Callable, Sequence

import pytest
import torch
from numbered_pictures import _noise, _png, _write_files, _write_tar, twelve

from pauc_hub.training.config import Config
from pauc_hub.training.data.views import Batch, draw_views

__all__ = ["_noise", "_png", "_write_files", "_write_tar", "twelve"]


def drawn(indices: Sequence[int], size: int = 8, seed: int = 0, **settings: object) -> Batch:
    config, draws = Config(size=size, **settings), torch.Generator().manual_seed(seed)  # type: ignore[arg-type]
    views = [
        draw_views(config, len(indices), draws, small=i >= 2) for i in range(2 + config.small_views)
    ]
    return Batch(torch.tensor(indices, dtype=torch.int64), tuple(views))


@pytest.fixture(scope="session", name="drawn")
def _drawn() -> Callable[..., Batch]:
    """Makes a batch of some images with draws of its own."""
    return drawn
