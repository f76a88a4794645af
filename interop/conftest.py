"""Model folders of several kinds, two pictures, and a Hub on this machine that has the folders.

The Hub is there before huggingface_hub is imported, which reads its address only then.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_server import HubServer

CACHE = tempfile.TemporaryDirectory()
HUB = HubServer().__enter__()
os.environ |= {"HF_ENDPOINT": HUB.url, "HF_HOME": CACHE.name, "HF_HUB_DISABLE_TELEMETRY": "1"}
os.environ.pop("HF_TOKEN", None)

# The bundled one; one that pools by a class token; one that only pauc-hub knows the architecture
# of.
KINDS = ("bundled", "vit", "cifar-stem")


def pytest_unconfigure() -> None:
    HUB.stop()
    CACHE.cleanup()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with cat.jpg and dog.jpg, smooth colours of unequal sides."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name, size in (("cat.jpg", (100, 80)), ("dog.jpg", (70, 120))):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 5, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(folder / name, quality=95)
    return folder


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By kind."""
    from pauc_hub.models.bundled import bundled_folders

    place = tmp_path_factory.mktemp("folders")
    return {
        "bundled": bundled_folders()[0],
        "vit": write(place / "vit", "test_vit", 64, img_size=64),
        "cifar-stem": write(place / "cifar", "pauc_resnet18_cifar", 32),
    }


def write(path: Path, architecture: str, side: int, **options: int) -> Path:
    """A model folder of random weights, whose batch norms have seen something."""
    import torch

    from pauc_hub.images.preprocessing import Preprocessing
    from pauc_hub.models.timm_import import import_timm
    from pauc_hub.models.write_folder import write_folder

    torch.manual_seed(0)
    network = import_timm().create_model(architecture, num_classes=0, **options)
    for _ in range(3):
        network(torch.randn(4, 3, side, side))
    return write_folder(
        path,
        architecture=architecture,
        backbone=network.state_dict(),
        num_features=network.num_features,
        preprocessing=Preprocessing(size=side, crop_pct=0.9).to_config(),
        pauc={"objective": "pauc", "dim": 0, "clusters": [], "resolution": side},
        projector=None,
        prototypes=[],
        facts={"name": path.name},
        card="",
        half=False,
        # A module where the network pools a map, a word where it takes a token.
        global_pool=network.global_pool if isinstance(network.global_pool, str) else "avg",
        model_args=options or None,
    )


@pytest.fixture(scope="session", params=KINDS)
def folder(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Path:
    """Each kind in turn."""
    return folders[request.param]


@pytest.fixture(scope="session")
def ours(folder: Path, pictures: Path) -> np.ndarray[Any, Any]:
    """(2, D) what pauc-hub gives for the two pictures in fp32."""
    import pauc_hub

    model = pauc_hub.load(folder, device="cpu", precision="fp32")
    return np.asarray(model.embed([pictures / "cat.jpg", pictures / "dog.jpg"]))


@pytest.fixture
def repository(folder: Path) -> Iterator[str]:
    """The folder as a repository on the Hub, whose main branch holds something else in the
    meantime: its name.
    """
    name = f"me/{folder.name.replace('.', '-')}"
    HUB.add(name, folder, tag="v1")
    HUB.add(name, {"README.md": b"moved on"})
    yield name
    del HUB.repositories[name]


@pytest.fixture
def assert_ours(ours: np.ndarray[Any, Any]) -> Callable[[Any, str], None]:
    """Compares with `ours`, rounding aside; the difference is printed, and `pytest -rP` shows
    it.
    """

    def compare(found: Any, what: str) -> None:
        found = np.asarray(found)
        assert found.shape == ours.shape
        difference = float(np.abs(found - ours).max())
        print(
            f"{what}: largest difference {difference:.1e} of numbers up to {np.abs(ours).max():.1f}"
        )
        assert difference < 1e-5

    return compare
