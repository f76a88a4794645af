"""Files derived from embeddings: what goes in comes out, and what is no such file is refused in one
line.
"""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pauc_hub.errors import ArtefactError, PaucError
from pauc_hub.files.artefact import read_artefact, read_facts, write_artefact
from pauc_hub.origin import Origin

ORIGIN = Origin("aa" * 32, "backbone", {"mean": [0.5]}, None, "net")
TENSORS = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3), "rows": np.array([7, 8])}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    write_artefact(
        path,
        "probe",
        1,
        {**TENSORS, "turned": TENSORS["weight"].T},
        ORIGIN,
        {"classes": ["é", "b"]},
    )
    found = read_artefact(path, "probe", 1)
    assert found.origin == ORIGIN
    assert found.origin.model == "net"
    assert found.about == {"kind": "probe", "classes": ["é", "b"]}
    np.testing.assert_array_equal(found.tensors["weight"], TENSORS["weight"])
    np.testing.assert_array_equal(found.tensors["turned"], TENSORS["weight"].T)
    assert read_facts(path)["origin"]["space"] == "backbone"


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    written = set()
    for i in range(8):
        write_artefact(tmp_path / f"{i}", "probe", 1, TENSORS, ORIGIN, {"a": "é", "b": [1]})
        written.add((tmp_path / f"{i}").read_bytes())
    assert len(written) == 1


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    with pytest.raises(ArtefactError, match="no such file"):
        read_artefact(path, "probe", 1)
    path.write_bytes(b"12345")
    with pytest.raises(ArtefactError, match="damaged, or no file of pauc-hub"):
        read_artefact(path, "probe", 1)
    save_file({"a": TENSORS["rows"]}, path, metadata={"pauc": "[]"})
    with pytest.raises(ArtefactError, match="no JSON object"):
        read_artefact(path, "probe", 1)
    write_artefact(path, "prototypes", 1, TENSORS, ORIGIN, {})
    with pytest.raises(ArtefactError, match="is a prototypes file, not a probe file"):
        read_artefact(path, "probe", 1)
    with pytest.raises(ArtefactError, match="another format than this pauc-hub reads, 2"):
        read_artefact(path, "prototypes", 2)
    with pytest.raises(PaucError, match="could not be written"):
        write_artefact(tmp_path / "nowhere" / "p.safetensors", "probe", 1, TENSORS, ORIGIN, {})
