"""Receipts of a run: what it was made of and on, for facts.json."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("pauc-hub", "torch", "torchvision", "timm", "pillow", "numpy", "safetensors")


def hardware(device: torch.device) -> dict[str, Any]:
    """The processor, and the GPU where one was used."""
    found: dict[str, Any] = {
        "device": device.type,
        "name": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "cores": os.cpu_count(),
    }
    if hasattr(os, "sysconf"):
        found["memory_gb"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9)
    return found


def versions() -> dict[str, str]:
    """Of Python and of the packages that the result depends on."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def commit() -> str | None:
    """The commit of the checkout that this code lies in, `-dirty` where it was changed since; None
    for a package.
    """
    here = Path(__file__).resolve()
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None
    return _git(here.parent, "describe", "--always", "--dirty", "--exclude=*")


def _git(folder: Path, *words: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):  # no git, or no checkout
        return None
    return answer.stdout.strip()


def _processor() -> str:
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [
            line.split(":", 1)[1].strip()
            for line in cpuinfo.read_text().splitlines()
            if line.startswith("model name")
        ]
        name = models[0] if models else name
    return name
