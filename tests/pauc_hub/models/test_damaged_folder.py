"""Damage to a model folder is named in one line, by whatever reads it."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_model import write

from pauc_hub.errors import ModelFolderError
from pauc_hub.models.folder import ModelFolder, open_folder


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def reseal(folder: Path, name: str, data: bytes) -> None:
    """Damage that the sums do not tell: as if the folder had been written so."""
    (folder / name).write_bytes(data)
    sums = (folder / "SHA256SUMS").read_text()
    new = f"{hashlib.sha256(data).hexdigest()}  {name}"
    (folder / "SHA256SUMS").write_text(re.sub(rf"\w{{64}}  {re.escape(name)}", new, sums))


def edit_config(folder: Path, **changed: Any) -> None:
    config = json.loads((folder / "config.json").read_text()) | changed
    reseal(folder, "config.json", json.dumps(config).encode())


READERS: dict[str, Callable[[ModelFolder], object]] = {
    "model.safetensors": ModelFolder.read_backbone,
    "projector.safetensors": ModelFolder.read_projector,
    "prototypes.safetensors": ModelFolder.read_prototypes,
    "facts.json": lambda folder: folder.facts,
}


@pytest.mark.parametrize("name", sorted(READERS))
def test_reading_a_damaged_file_names_it(folder: Path, name: str) -> None:
    flip_a_byte(folder / name)
    opened = open_folder(folder)
    for refuse in (READERS[name], ModelFolder.verify):
        with pytest.raises(
            ModelFolderError, match=rf"^'{folder / name}' is damaged: its sha256 is \w{{12}}…, "
        ) as error:
            refuse(opened)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", sorted(READERS))
def test_reading_a_file_that_went_missing_names_it(folder: Path, name: str) -> None:
    opened = open_folder(folder)
    (folder / name).unlink()
    with pytest.raises(
        ModelFolderError,
        match=rf"^'{folder / name}' cannot be read \(No such file or directory\)\.$",
    ):
        READERS[name](opened)


def test_verify_looks_at_the_named_files_alone(folder: Path) -> None:
    flip_a_byte(folder / "README.md")
    opened = open_folder(folder)
    opened.verify("model.safetensors", "config.json")
    with pytest.raises(ModelFolderError, match=r"README\.md' is damaged"):
        opened.verify()


def test_a_file_without_a_sum_is_refused(folder: Path) -> None:
    sums = (folder / "SHA256SUMS").read_text().splitlines(keepends=True)
    (folder / "SHA256SUMS").write_text(
        "".join(line for line in sums if "model.safetensors" not in line)
    )
    opened = open_folder(folder)
    with pytest.raises(ModelFolderError, match=r"model\.safetensors' has no sum in SHA256SUMS\."):
        opened.read_backbone()
    with pytest.raises(ModelFolderError, match=r"model\.safetensors' has no sum in SHA256SUMS\."):
        _ = opened.weights_sha256


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").unlink(), r"is no model folder: it has no config\.json\."),
        (lambda f: (f / "model.safetensors").unlink(), r"it has no model\.safetensors\."),
        (lambda f: (f / "SHA256SUMS").unlink(), r"it has no SHA256SUMS\."),
        (
            lambda f: (f / "SHA256SUMS").write_text("nonsense\n"),
            r"SHA256SUMS' is not a list as `sha256sum` writes it\.",
        ),
        (
            lambda f: (f / "SHA256SUMS").write_text(""),
            r"SHA256SUMS' is not a list as `sha256sum` writes it\.",
        ),
        (
            lambda f: (f / "SHA256SUMS").write_text(f"{'0' * 64}  ../secret\n"),
            r"is not a list as `sha256sum` writes",
        ),
        (lambda f: flip_a_byte(f / "config.json"), r"config\.json' is damaged"),
        (
            lambda f: reseal(f, "config.json", b"{oops"),
            r"config\.json' is not JSON \(Expecting property name",
        ),
        (lambda f: reseal(f, "config.json", b"\xff\xff\xff"), r"config\.json' is not JSON"),
        (
            lambda f: reseal(f, "config.json", b"[1]"),
            r"config\.json' is not a JSON object but a list\.",
        ),
        (
            lambda f: edit_config(f, pauc=None),
            r"config\.json' has no usable pauc\. Was it written by pauc-hub\?",
        ),
        (
            lambda f: edit_config(f, architecture=3, num_features="4"),
            r"no usable architecture, num_features\.",
        ),
        (
            lambda f: edit_config(f, pauc={"format_version": 2}),
            r"is of format 2, but this pauc-hub reads 1\. Upgrade",
        ),
        (lambda f: edit_config(f, pauc={}), r"is of format None, but this pauc-hub reads 1\."),
    ],
)
def test_what_is_no_model_folder_is_refused_in_one_line(
    folder: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(folder)
    with pytest.raises(ModelFolderError, match=message) as error:
        open_folder(folder)
    assert "\n" not in str(error.value)


def test_a_path_without_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ModelFolderError, match=r"absent' is no folder\. A model folder holds config\.json and "
    ):
        open_folder(tmp_path / "absent")


def test_sealed_nonsense_is_refused_too(folder: Path) -> None:
    reseal(folder, "model.safetensors", b"nonsense")
    with pytest.raises(ModelFolderError, match=r"model\.safetensors' is no safetensors file \("):
        open_folder(folder).read_backbone()


def test_prototypes_of_another_layout_are_refused(folder: Path) -> None:
    reseal(folder, "prototypes.safetensors", (folder / "model.safetensors").read_bytes())
    with pytest.raises(ModelFolderError, match=r"holds no usable prototypes \('prototypes\.0'\)"):
        open_folder(folder).read_prototypes()
    other = write(folder.parent / "other", projector={"prototypes.0": torch.eye(2)})
    reseal(folder, "prototypes.safetensors", (other / "projector.safetensors").read_bytes())
    with pytest.raises(
        ModelFolderError, match=r"holds no usable prototypes \('concentrations\.0'\)"
    ):
        open_folder(folder).read_prototypes()
