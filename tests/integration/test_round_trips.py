"""What docs/formats.md shows of other tools is run as it stands there, and gives what was
written.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pauc_hub.tables.outputs import Dtype, open_output
from pauc_hub.tables.stored import read_table
from pauc_hub.tables.table import Provenance, Table

FORMATS = Path(__file__).parents[2] / "docs" / "formats.md"
SECTION = FORMATS.read_text().partition("### In other tools\n")[2].partition("\n#")[0]
BLOCKS: dict[str, str] = dict(
    re.findall(r"\n\n([^\n`]+):\n\n```python\n(.*?)```", SECTION, re.DOTALL)
)
QUERY = re.findall(r"```sql\n(.*?)```", SECTION, re.DOTALL)
PACKAGES = {
    "pandas": "pandas",
    "Polars": "polars",
    "DuckDB": "duckdb",
    "Hugging Face datasets": "datasets",
}
THEN = (
    "\nimport numpy as np\nnp.savez('found.npz', paths=np.array(list(paths)), "
    "embeddings=np.asarray(embeddings))\n"
)
TWICE = """
import os
for folder in ("32", "16"):
    os.chdir(folder)
    exec({}, {{}})
    os.chdir("..")
"""
PROVENANCE = Provenance(
    "pauc_resnet18.x", "ab" * 32, "backbone", {"crop_pct": 0.9}, "fp32", "/photos/été", "0.1.0"
)
COUNT, WIDTH = 25, 6


def write_tables(folder: Path, dtype: Dtype) -> Table:
    draws = np.random.default_rng(0)
    paths = [f"cats/{i}.jpg" for i in range(COUNT - 1)] + ["été \\xff.jpg"]
    embeddings = draws.normal(size=(COUNT, WIDTH)).astype(np.float32)
    sizes = np.stack([draws.permutation(COUNT) * 100, np.arange(COUNT)], axis=1).astype(np.int32)
    for name in ("photos.parquet", "photos.npy", "photos.safetensors"):
        with open_output(folder / name, WIDTH, COUNT, PROVENANCE, dtype) as writer:
            writer.write(paths, embeddings, sizes)
    return Table(paths, embeddings.astype(dtype), sizes, PROVENANCE)


def run(code: str, folder: Path) -> str:
    """In a process of its own, which keeps what it caches to the folder, and reaches for no
    network.
    """
    away = {
        "HOME": str(folder),
        "HF_HOME": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | away, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("tool", BLOCKS)
def test_the_block_of_each_tool_reads_the_table_and_gives_one_back(
    tmp_path: Path, tool: str
) -> None:
    folders: dict[Dtype, Path] = {"float32": tmp_path / "32", "float16": tmp_path / "16"}
    tables = {}
    for dtype, folder in folders.items():
        folder.mkdir()
        tables[dtype] = write_tables(folder, dtype)
    # one process for both, since imports take longest
    run(TWICE.format(repr(BLOCKS[tool] + THEN)), tmp_path)
    for dtype, folder in folders.items():
        assert_round_trip(folder, tables[dtype], dtype, PACKAGES.get(tool))


def assert_round_trip(folder: Path, written: Table, dtype: Dtype, package: str | None) -> None:
    with np.load(folder / "found.npz") as found:
        assert found["paths"].tolist() == written.paths
        assert np.array_equal(found["embeddings"], written.embeddings)
    assert (folder / "large.parquet").exists() == bool(package)
    if package:
        large, kept = read_table(folder / "large.parquet"), written.sizes[:, 0] >= 1000
        assert 0 < kept.sum() < COUNT
        assert large.paths == [
            path for path, is_kept in zip(written.paths, kept, strict=True) if is_kept
        ]
        assert np.array_equal(large.embeddings, written.embeddings[kept])
        assert large.embeddings.dtype == dtype
        assert np.array_equal(large.sizes, written.sizes[kept])
        assert large.provenance == PROVENANCE


def test_the_query_finds_the_nearest(tmp_path: Path) -> None:
    written = write_tables(tmp_path, "float32")
    unit = written.embeddings / np.linalg.norm(written.embeddings, axis=1, keepdims=True)
    nearest = np.argsort(-unit @ unit[7])[:10]
    printed = run(
        (
            "import duckdb\nprint(*(row[0] for row in "
            f'duckdb.sql("""{QUERY[0]}""").fetchall()), sep="\\n")'
        ),
        tmp_path,
    )
    assert printed.splitlines() == [written.paths[i] for i in nearest]


def test_all_tools_are_there() -> None:
    assert [*BLOCKS] == [
        "pyarrow",
        "numpy, mapped",
        "torch",
        "pandas",
        "Polars",
        "DuckDB",
        "Hugging Face datasets",
    ]
    assert len(QUERY) == 1
