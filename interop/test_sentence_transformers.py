"""sentence-transformers reads a model folder, from the disk and from a Hub, and gives pauc-hub's
numbers.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from card_snippets import run_snippet, snippets
from PIL import Image
from sentence_transformers import SentenceTransformer

Array = np.ndarray[Any, Any]
Compare = Callable[[Any, str], None]


def embeddings(source: str, pictures: Path, **options: str) -> Array:
    model = SentenceTransformer(source, device="cpu", **options)
    found = model.encode([Image.open(pictures / name) for name in ("cat.jpg", "dog.jpg")])
    assert model.get_embedding_dimension() == found.shape[1]
    return np.asarray(found)


def test_a_folder(folder: Path, pictures: Path, assert_ours: Compare) -> None:
    assert_ours(embeddings(str(folder), pictures), f"SentenceTransformer, {folder.name}")


def test_a_repository(repository: str, pictures: Path, assert_ours: Compare) -> None:
    assert_ours(
        embeddings(repository, pictures, revision="v1"), f"SentenceTransformer, {repository}"
    )


def test_the_snippet_on_the_card(
    folders: dict[str, Path], pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folders["bundled"]
    monkeypatch.chdir(pictures)
    (code,) = [code for code in snippets(folder / "README.md") if "sentence_transformers" in code]
    width = 512 if "resnet18" in folder.name else 2048
    assert run_snippet(code, folder)["embeddings"].shape == (2, width)
