"""The environment that peers live in, apart from this package's own; made at first use from
peers/requirements.txt.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from measuring import watch

PEERS = Path(__file__).resolve().parent / "peers"
# Of lightly-train: no mail home while it is timed.
QUIET = {"LIGHTLY_TRAIN_EVENTS_DISABLED": "1"}
# Of Python: the peers do not see this package's environment.
HIDDEN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


def peers_venv(venv: Path) -> Path:
    """The folder with the peers installed in it, just those of the pins."""
    venv = venv.expanduser().absolute()  # not resolved: bin/python is a link
    pins, stamp = PEERS / "requirements.txt", venv / "installed.txt"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == pins.read_text(encoding="utf-8"):
        return venv
    print(f"installing the peers into {venv} (once, about 6 GB with torch)", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    subprocess.run(
        [str(venv / "bin/python"), "-m", "pip", "install", "-qq", "-r", str(pins)], check=True
    )
    stamp.write_text(pins.read_text(encoding="utf-8"), encoding="utf-8")
    return venv


def peer_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key not in HIDDEN} | QUIET


def peer_versions(venv: Path, packages: Sequence[str]) -> dict[str, str]:
    ask = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    told = watch(str(venv / "bin/python"), "-c", ask, *packages).stdout
    return dict(zip(packages, told.split(), strict=True))
