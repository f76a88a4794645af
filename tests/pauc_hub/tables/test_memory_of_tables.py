"""However many rows a table has, writing it and reading it in batches takes the same memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WIDTH, FEW, MANY = 512, 4096, 65536  # rows; 8 MB of embeddings, and 128 MB
ALLOWED = 24  # MB; what the allocators of three libraries keep in hand differs from run to run

SCRIPT = f"""
import sys
from pathlib import Path
import numpy as np
from pauc_hub.tables import outputs, stored
from pauc_hub.tables.pca import Pca
from pauc_hub.tables.table import Provenance

outputs.BYTES_TOGETHER = 1 << 20
path, dtype, projected = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "pca"
provenance = Provenance("m", "00", "backbone", {{}}, "fp32", "/photos", "0")
draws = np.random.default_rng(0).normal(size=(1024, {WIDTH})).astype(np.float32)
pca = Pca.fit(draws, 256) if projected else None
for rows in ({FEW}, {MANY}):
    with outputs.open_output(path, {WIDTH}, rows, provenance, dtype, pca) as writer:
        for start in range(0, rows, len(draws)):
            names = [f"photos/{{start + row:09}}.jpg" for row in range(len(draws))]
            writer.write(names, draws, np.ones((len(draws), 2), np.int32))
    assert sum(len(batch.embeddings + 1) for batch in stored.read_batches(path, 1024)) == rows
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(int(peak.split()[1]) // 1024)
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(),
    reason="needs /proc to read a process's peak of memory",
)
@pytest.mark.parametrize(
    ("name", "dtype", "projection"),
    [
        ("t.parquet", "float32", "none"),
        ("t.parquet", "float16", "pca"),
        ("t.npy", "float32", "none"),
        ("t.safetensors", "float16", "none"),
    ],
)
def test_memory_does_not_grow_with_the_rows(
    tmp_path: Path, name: str, dtype: str, projection: str
) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / name), dtype, projection]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    few, many = map(int, subprocess.check_output(command, env=environment, text=True).split())
    assert many - few < ALLOWED
