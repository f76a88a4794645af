"""Registers our architectures with timm, whichever is imported first, and lists what is bundled;
needs no torch.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from pauc_hub.errors import PaucError
from pauc_hub.models import hub_weights

WEIGHTS = Path(__file__).parents[1] / "weights"  # one model folder for each `arch.tag`, named so
ARCHITECTURES = {  # what timm is told of: the name, and what it is
    "pauc_resnet18": "resnet18",
    "pauc_resnet18_cifar": "resnet18 with a CIFAR stem",
    "pauc_resnet18_cifar_pool": "resnet18 with a CIFAR stem that keeps the max-pool",
    "pauc_resnet50": "resnet50",
    "pauc_resnet50_cifar": "resnet50 with a CIFAR stem",
}


def bundled_folders() -> list[Path]:
    """The model folders inside this package; of several for one architecture, the first is its
    default.
    """
    found = sorted(WEIGHTS.iterdir()) if WEIGHTS.is_dir() else []
    return [
        folder
        for folder in found
        if folder.is_dir() and architecture_of(folder.name) in ARCHITECTURES
    ]


def bundled_folder(name: str) -> Path | None:
    """Where the weights of `arch.tag`, or the default ones of `arch`, are bundled; None where they
    are not.
    """
    return next(
        (
            folder
            for folder in bundled_folders()
            if name in (folder.name, architecture_of(folder.name))
        ),
        None,
    )


def model_names() -> list[str]:
    """Every name that `timm.create_model` takes: the architectures, and each of their weights as
    `arch.tag`.
    """
    return sorted({*ARCHITECTURES, *(folder.name for folder in bundled_folders()), *_on_the_hub()})


def weights_names() -> list[str]:
    """`arch.tag` of all weights there are: the bundled ones, then those that are fetched from the
    Hub.
    """
    bundled = [folder.name for folder in bundled_folders()]
    return [*bundled, *(name for name in _on_the_hub() if name not in bundled)]


def _on_the_hub() -> list[str]:
    return [entry.name for entry in hub_weights.HUB_WEIGHTS]


def architecture_of(name: str) -> str:
    """`arch` of `arch.tag`."""
    return name.partition(".")[0]


def import_timm() -> ModuleType:
    """timm, with our architectures registered.

    Raises:
        PaucError: timm cannot be imported; one line says why, above all where torch and torchvision
            do not match.
    """
    try:
        timm = importlib.import_module("timm")
    # torchvision's missing operators are a RuntimeError
    except (ImportError, RuntimeError) as error:
        raise PaucError(_explain(error)) from error
    register()
    return timm


def register() -> None:
    # registers as it is imported, as timm's own model files do
    importlib.import_module("pauc_hub.models.backbones")


def register_when_timm_is_imported() -> None:
    """At once where timm is imported already, so that both orders of the two imports give the
    same.
    """
    if "timm" in sys.modules:
        register()
    elif not any(isinstance(finder, TimmWatcher) for finder in sys.meta_path):
        sys.meta_path.insert(0, TimmWatcher())


class TimmWatcher:
    """A finder on sys.meta_path: finds timm as the others would, and registers our architectures
    once it has run.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "timm":
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        spec = next(
            (spec for finder in others if (spec := finder.find_spec(name, path, target))), None
        )
        if spec:
            self._register_after(spec)
        return spec

    def _register_after(self, spec: ModuleSpec) -> None:
        if spec.loader is None:  # a namespace: a folder that happens to be called timm
            return
        execute = spec.loader.exec_module

        def execute_then_register(module: ModuleType) -> None:
            execute(module)  # where it fails, this finder stays, for the next attempt
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            register()

        spec.loader.exec_module = execute_then_register  # type: ignore[method-assign]


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
