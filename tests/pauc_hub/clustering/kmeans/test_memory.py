"""The N x K distances are never held, in seeding, iterations and splits, as the memory of a process
shows.
"""

import json
import subprocess
import sys

PROCESS = """
import json, resource, torch
from pauc_hub.clustering.kmeans import kmeans

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

torch.set_num_threads(1)
points = torch.randn(60_000, 8, generator=torch.Generator().manual_seed(0))
kmeans(points[:2000], 50, iterations=1, backend="torch")  # what the libraries themselves take
before = peak()
start = torch.cat([points[:5000], torch.full((1000, 8), 99.0)])  # 1000 clusters are empty at first
found = kmeans(points, 6000, iterations=2, start=start, backend="torch")
seeded = kmeans(points, 6000, iterations=0, backend="torch")
mib = peak() - before
print(json.dumps({"mib": mib, "splits": found.empty_splits, "k": len(seeded.centroids)}))
"""


def test_memory_does_not_grow_with_points_times_clusters() -> None:
    done = subprocess.run([sys.executable, "-c", PROCESS], stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout)
    assert found["splits"] >= 1000
    assert found["k"] == 6000
    assert found["mib"] < 200  # the distances would be 1373 MiB, a byte for each 343
