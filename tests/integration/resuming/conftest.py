"""Shared by the tests of resuming: images, and a run over them that nothing disturbed."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from resumed_runs import CONFIG

from pauc_hub.training import loop


@pytest.fixture(autouse=True)
def _a_line_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "STEPS_BETWEEN_LINES", 1)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, draws = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for i in range(43):  # three more than whole batches
        coarse = draws.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((40, 36)).save(folder / f"{i:02}.png")
    return folder


@pytest.fixture(scope="session")
def undisturbed(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "undisturbed"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "STEPS_BETWEEN_LINES", 1)
        loop.train(images, run, CONFIG, quiet=True)
    return run
