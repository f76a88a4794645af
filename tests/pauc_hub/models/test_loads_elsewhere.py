"""What a model card shows runs as it stands, and torchvision's ResNets take our weights; `make
interop` tries more.
"""

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from card_snippets import run_snippet, snippets
from PIL import Image

import pauc_hub
from pauc_hub.cli import run
from pauc_hub.models.bundled import bundled_folders
from pauc_hub.models.folder import open_folder

# What the main suite has; interop/ runs the others.
HERE = [(folder, code) for folder in bundled_folders() for code in snippets(folder / "README.md")]
HERE = [(folder, code) for folder, code in HERE if "transformers" not in code]
FOLDERS = pytest.mark.parametrize("folder", bundled_folders(), ids=lambda folder: folder.name)


@pytest.fixture(autouse=True)
def pictures(tmp_path: Path, picture: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory has cat.jpg, dog.jpg, and both in images/."""
    (tmp_path / "images").mkdir()
    for name, size in (("cat.jpg", (90, 70)), ("dog.jpg", (80, 120))):
        picture(*size).save(tmp_path / name, quality=95)
        picture(*size).save(tmp_path / "images" / name, quality=95)
    monkeypatch.chdir(tmp_path)


def ours(folder: Path) -> np.ndarray[Any, Any]:
    return pauc_hub.load(folder, device="cpu", precision="fp32").embed(["cat.jpg", "dog.jpg"])


@pytest.mark.parametrize(
    ("folder", "code"), HERE, ids=[f"{folder.name}, {code.split()[1]}" for folder, code in HERE]
)
def test_snippets_of_the_card(folder: Path, code: str) -> None:
    defined = run_snippet(code, folder)
    data: Any = timm.data  # untyped
    cfg = data.resolve_model_data_config(defined["backbone"])
    transform = defined.get("transform") or data.create_transform(**cfg)
    images = torch.stack([transform(Image.open(name)) for name in ("cat.jpg", "dog.jpg")])
    with torch.no_grad():
        found = defined["backbone"](images).numpy()
    np.testing.assert_allclose(found, ours(folder), atol=1e-5)
    if "embeddings" in defined:
        assert defined["embeddings"].shape == found.shape


@FOLDERS
def test_the_command_of_the_card(folder: Path) -> None:
    (command,) = re.findall(
        r"^ {4}pauc (embed .*)$", (folder / "README.md").read_text(), flags=re.MULTILINE
    )
    assert run([*shlex.split(command), "--quiet", "--device", "cpu"]) == 0
    assert pauc_hub.read_table("images.parquet").embeddings.shape[0] == 2


@FOLDERS
def test_torchvision_takes_the_weights(folder: Path) -> None:
    """Its ResNets have the same names; what is left out is the classifier."""
    opened = open_folder(folder)
    theirs = torchvision.models.get_model(opened.architecture)
    missing, unexpected = theirs.load_state_dict(opened.read_backbone(), strict=False)
    assert (missing, unexpected) == (["fc.weight", "fc.bias"], [])
    theirs.fc = torch.nn.Identity()
    ours = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(theirs.eval()(images), ours(images), atol=1e-5, rtol=0)
