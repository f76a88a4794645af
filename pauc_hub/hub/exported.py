"""What files that `pauc export` wrote say of themselves (docs/formats.md)."""

import json
import zipfile
from pathlib import Path
from typing import Any

from pauc_hub.errors import ArtefactError, UsageError
from pauc_hub.files.artefact import METADATA_KEY

ONNX_SUFFIX, PT2_SUFFIX = ".onnx", ".pt2"
EXPORTED_SUFFIXES = (ONNX_SUFFIX, PT2_SUFFIX)
# Where torch.export.save() puts extra files.
EXTRA_FILE = "extra/pauc.json"


def read_exported(path: Path) -> dict[str, Any]:
    """The facts of an ONNX or torch.export file.

    Raises:
        UsageError: pauc-hub did not write it, or a package is missing to read it.
        ArtefactError: it is damaged.
    """
    text = _of_onnx(path) if path.suffix == ONNX_SUFFIX else _of_pt2(path)
    if text is None:
        raise UsageError(f"'{path}' was not written by pauc-hub: it has no entry {METADATA_KEY}.")
    try:
        facts = json.loads(text)
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        raise ArtefactError(f"'{path}' is damaged: its metadata are no JSON object.")
    return facts


def _of_onnx(path: Path) -> str | None:
    try:
        import onnx
    except ImportError as error:
        raise UsageError(
            f"to read '{path}' needs onnx: `pip install 'pauc-hub[export]'`."
        ) from error
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:
        raise ArtefactError(f"'{path}' is damaged, or no ONNX file.") from error
    return next((entry.value for entry in model.metadata_props if entry.key == METADATA_KEY), None)


def _of_pt2(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            name = next((name for name in archive.namelist() if name.endswith(EXTRA_FILE)), None)
            return archive.read(name).decode() if name else None
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ArtefactError(f"'{path}' is damaged, or no torch.export file.") from error
