"""Clustering and assignment need neither scikit-learn nor scipy, which an extra installs."""

import os
import subprocess
import sys


def test_cluster_and_assign_import_no_extra() -> None:
    program = (
        "import sys; sys.modules |= dict.fromkeys(('sklearn', 'scipy', 'faiss', 'matplotlib'))\n"
        "import pauc_hub.answers.cluster, pauc_hub.answers.assign"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
