"""transformers reads a model folder, from the disk and from a Hub, and gives the numbers that
pauc-hub gives.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from card_snippets import run_snippet, snippets
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, pipeline

Array = np.ndarray[Any, Any]
Compare = Callable[[Any, str], None]


def embeddings(source: str | Path, pictures: Path, **options: str) -> Array:
    processor = AutoImageProcessor.from_pretrained(source, **options)
    model = AutoModel.from_pretrained(source, **options).eval()
    assert model.dtype == torch.float32
    images = [Image.open(pictures / name) for name in ("cat.jpg", "dog.jpg")]
    with torch.no_grad():
        return np.asarray(model(**processor(images)).pooler_output)


def test_model_and_processor_of_a_folder(
    folder: Path, pictures: Path, assert_ours: Compare
) -> None:
    assert_ours(embeddings(folder, pictures), f"AutoModel, {folder.name}")


def test_model_and_processor_of_a_repository(
    repository: str, pictures: Path, assert_ours: Compare
) -> None:
    assert_ours(embeddings(repository, pictures, revision="v1"), f"AutoModel, {repository}")


def test_pipeline(folder: Path, pictures: Path, assert_ours: Compare) -> None:
    extract = pipeline("image-feature-extraction", model=str(folder), pool=True)
    found = np.asarray(extract([str(pictures / "cat.jpg"), str(pictures / "dog.jpg")]))
    assert_ours(found[:, 0], f"pipeline, {folder.name}")


def test_the_snippet_on_the_card(
    folders: dict[str, Path], pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folders["bundled"]
    monkeypatch.chdir(pictures)
    (code,) = [code for code in snippets(folder / "README.md") if "transformers.pipeline" in code]
    width = 512 if "resnet18" in folder.name else 2048
    assert np.asarray(run_snippet(code, folder)["embeddings"]).shape == (2, 1, width)
