"""Imports timm, and says in one line why it cannot be imported."""

import importlib
from types import ModuleType

from pauc_hub.errors import PaucError


def import_timm() -> ModuleType:
    """timm; registration.py sees to it that it knows our architectures.

    Raises:
        PaucError: timm cannot be imported; one line says why, above all where torch and torchvision
            do not match.
    """
    try:
        return importlib.import_module("timm")
    # torchvision's missing operators are a RuntimeError
    except (ImportError, RuntimeError) as error:
        raise PaucError(_explain(error)) from error


def _explain(error: Exception) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    if "torchvision::" not in reason:
        return (
            f"timm cannot be imported ({reason}). Install it anew: pip install "
            "--force-reinstall timm"
        )
    from importlib.metadata import version  # slow to import, and hardly ever needed

    return (
        f"torch {version('torch')} and torchvision {version('torchvision')} do not fit together "
        f"({reason}). "
        "Install both from one index: pip install --force-reinstall torch torchvision"
    )
