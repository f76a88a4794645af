"""The picture on a card: the right images in the right rows, and on the Hub only where it was asked
for.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_repositories import TOKEN
from hub_server import HubServer
from huggingface_hub import constants
from PIL import Image

from pauc_hub.answers.assign import assign
from pauc_hub.answers.gallery import COLUMNS, GAP, ROWS, gallery
from pauc_hub.answers.thumbnails import THUMBNAIL_SIDE
from pauc_hub.answers.verify import verify
from pauc_hub.cli import run
from pauc_hub.errors import UsageError
from pauc_hub.hub.pull import pull

ME = "me/tiny"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Of one colour each."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, colour in enumerate(np.random.default_rng(0).integers(0, 256, (12, 3)).tolist()):
        Image.new("RGB", (90, 120), tuple(colour)).save(folder / f"{number:02}.png")
    return folder


def opened(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_rows_are_the_largest_prototypes_and_their_central_images(
    photos: Path, model_folder: Path, tmp_path: Path
) -> None:
    sheet = opened(gallery(photos, model_folder, device="cpu", quiet=True))
    found = assign(
        photos,
        model=model_folder,
        output=tmp_path / "a.csv",
        exemplars=COLUMNS,
        device="cpu",
        quiet=True,
    )
    assert found.exemplars
    lines: list[Any] = [line.split(",") for line in found.exemplars.read_text().splitlines()[1:]]
    central = [
        (prototype, path) for _, prototype, _, _, kind, _, path, *_ in lines if kind == "central"
    ]
    order = list(dict.fromkeys(prototype for prototype, _ in central))[:ROWS]
    rows = [[path for prototype, path in central if prototype == wanted] for wanted in order]
    step = THUMBNAIL_SIDE + GAP
    assert sheet.shape == (step * len(rows) - GAP, step * max(map(len, rows)) - GAP, 3)
    for y, row in enumerate(rows):
        for x, path in enumerate(row):
            middle = sheet[y * step + THUMBNAIL_SIDE // 2, x * step + THUMBNAIL_SIDE // 2].astype(
                int
            )
            expected = opened((photos / path).read_bytes())[0, 0].astype(int)
            assert np.abs(middle - expected).max() < 12


def test_a_model_without_prototypes_has_none(photos: Path, headless_folder: Path) -> None:
    with pytest.raises(UsageError, match="prototypes"):
        gallery(photos, headless_folder, device="cpu", quiet=True)


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_it_is_pushed_where_it_was_asked_for(
    hub: HubServer,
    photos: Path,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    command = ["push", str(model_folder), ME, "--quiet"]
    assert run([*command, "--gallery", str(photos)]) == 0
    back = pull(ME, tmp_path / "back", quiet=True).output
    verify(back)
    assert (back / "README.md").read_text().endswith("![Images by prototype](gallery.jpg)\n")
    assert opened((back / "gallery.jpg").read_bytes()).shape[1] > THUMBNAIL_SIDE
    # A model that has one keeps it, and says so once.
    assert run(["push", str(back), "me/again", "--quiet", "--gallery", str(photos)]) == 0
    files = hub.repositories["me/again"].commits[-1].files
    assert files["README.md"].count(b"gallery.jpg") == 1
    assert run(command) == 0
    files = hub.repositories[ME].commits[-1].files
    assert "gallery.jpg" not in files
    assert files["README.md"] == (model_folder / "README.md").read_bytes()
