"""Registers our architectures with timm, whichever is imported first; needs no torch."""

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


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
