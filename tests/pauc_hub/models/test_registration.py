"""Registration with timm in either order of imports, what is bundled, and what is said where timm
is broken.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pytest

from pauc_hub.models import bundled, registration
from pauc_hub.models.bundled import bundled_folder, bundled_folders, model_names
from pauc_hub.models.registration import TimmWatcher

TINY = "pauc_resnet18.tiny_imagenet"
NO_NETWORK = """
import socket
def refuse(*args, **kwargs): raise AssertionError("a connection was attempted")
socket.socket.connect = socket.getaddrinfo = refuse
"""


def python(code: str, *, path: Path | None = None) -> str:
    """What a fresh interpreter prints; warnings are errors, and it runs outside the checkout."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HF_"))
    }
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"} | (
        {"PYTHONPATH": str(path)} if path else {}
    )
    command: Sequence[str] = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(
        command, cwd="/", env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


ROUNDABOUT = """
import importlib.util, pauc_hub
importlib.util.find_spec("timm")  # as transformers asks whether timm is there
from timm.models import create_model
import timm
importlib.reload(pauc_hub), importlib.reload(timm)
"""


@pytest.mark.parametrize("imports", ["import pauc_hub, timm", "import timm, pauc_hub", ROUNDABOUT])
def test_timm_makes_the_pretrained_model_whatever_was_imported_first(imports: str) -> None:
    code = f"""{NO_NETWORK}
{imports}
import sys, torch
model = timm.create_model("pauc_resnet18", pretrained=True).eval()
print(*model(torch.zeros(2, 3, 64, 64)).shape, *timm.list_models("pauc_resnet18*", pretrained=True))
print([finder for finder in sys.meta_path if "pauc" in type(finder).__module__])
"""
    assert python(code).splitlines() == [f"2 512 {TINY}", "[]"]


def test_importing_the_package_is_light() -> None:
    code = """
import sys, pauc_hub
from pauc_hub.models.bundled import bundled_folder, model_names
assert bundled_folder("pauc_resnet18") and model_names()
heavy = {"torch", "timm", "torchvision", "numpy", "PIL", "pyarrow", "safetensors"}
heavy |= {"importlib.metadata"}
print(heavy & set(sys.modules))
"""
    assert python(code) == "set()"


def test_one_watcher_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    registration.register_when_timm_is_imported()
    registration.register_when_timm_is_imported()
    assert [type(finder) for finder in sys.meta_path].count(TimmWatcher) == 1


def fake_timm(folder: Path, code: str) -> Path:
    (folder / "timm").mkdir()
    (folder / "timm" / "__init__.py").write_text(code)
    return folder


def test_registration_waits_for_the_attempt_that_succeeds(tmp_path: Path) -> None:
    fake_timm(
        tmp_path,
        (
            "import builtins\nif not hasattr(builtins, 'repaired'): raise "
            "ImportError('broken')\nvalue = 1\n"
        ),
    )
    code = """
import builtins, sys, pauc_hub
from pauc_hub.models import registration
registration.register = lambda: print("registered with", sys.modules["timm"].value)
try: import timm
except ImportError as error: print(error)
builtins.repaired = True
import timm
import timm.__init__
"""
    assert python(code, path=tmp_path).splitlines() == ["broken", "registered with 1"]


def test_the_watcher_leaves_timm_as_it_would_be(tmp_path: Path) -> None:
    fake_timm(tmp_path, "")
    code = """
import inspect, pauc_hub
from pauc_hub.models import registration
registration.register = lambda: None
import timm
print(type(timm.__loader__).__name__, timm.__spec__.loader is timm.__loader__, timm.__file__)
"""
    expected = f"SourceFileLoader True {tmp_path / 'timm' / '__init__.py'}"
    assert python(code, path=tmp_path) == expected


def test_a_folder_that_happens_to_be_called_timm_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "timm").mkdir()
    spec = TimmWatcher().find_spec("timm", [str(tmp_path)])
    assert spec is not None
    assert spec.loader is None


def test_other_modules_are_not_the_watchers_business() -> None:
    assert TimmWatcher().find_spec("json", None) is None


BROKEN = """
from pauc_hub.errors import PaucError
from pauc_hub.models.timm_import import import_timm
try: import_timm()
except PaucError as error: print(error)
"""


def test_torch_and_torchvision_that_do_not_match_are_told_in_one_line(tmp_path: Path) -> None:
    fake_timm(
        tmp_path, "raise RuntimeError('operator torchvision::nms does not exist\\nsecond line')"
    )
    assert python(BROKEN, path=tmp_path) == (
        f"torch {version('torch')} and torchvision {version('torchvision')} do not fit together "
        "(operator torchvision::nms does not exist). "
        "Install both from one index: pip install --force-reinstall torch torchvision"
    )


@pytest.mark.parametrize(
    ("failure", "reason"),
    [("ImportError('no such thing')", "no such thing"), ("ImportError()", "ImportError")],
)
def test_a_timm_that_cannot_be_imported_is_told_in_one_line(
    tmp_path: Path, failure: str, reason: str
) -> None:
    fake_timm(tmp_path, f"raise {failure}")
    expected = (
        f"timm cannot be imported ({reason}). Install it anew: pip install --force-reinstall timm"
    )
    assert python(BROKEN, path=tmp_path) == expected


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "weights"
    for name in (
        "pauc_resnet18.b",
        "pauc_resnet18.a",
        ".pauc_resnet18.a.1234abcd",
        "other.a",
        "__pycache__",
    ):
        (root / name).mkdir(parents=True)
    (root / "pauc_resnet50.file").touch()
    monkeypatch.setattr(bundled, "BUNDLED", root)
    return root


def test_only_folders_of_our_architectures_count_as_bundled(weights: Path) -> None:
    assert bundled_folders() == [weights / "pauc_resnet18.a", weights / "pauc_resnet18.b"]


def test_names_are_the_architectures_and_their_weights(weights: Path) -> None:
    assert model_names() == sorted([*bundled.ARCHITECTURES, "pauc_resnet18.a", "pauc_resnet18.b"])


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("pauc_resnet18", "pauc_resnet18.a"),  # the first is the default
        ("pauc_resnet18.a", "pauc_resnet18.a"),
        ("pauc_resnet18.b", "pauc_resnet18.b"),
        ("pauc_resnet18.c", None),
        ("pauc_resnet50", None),
        ("pauc_resnet", None),
        ("other.a", None),
        ("", None),
        (".", None),
        ("../weights/pauc_resnet18.a", None),
    ],
)
def test_a_name_leads_to_its_folder_or_nowhere(weights: Path, name: str, found: str | None) -> None:
    assert bundled_folder(name) == (weights / found if found else None)


def test_without_any_weights_the_architectures_remain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundled, "BUNDLED", tmp_path / "absent")
    assert bundled_folders() == []
    assert model_names() == [
        "pauc_resnet18",
        "pauc_resnet18_cifar",
        "pauc_resnet18_cifar_pool",
        "pauc_resnet50",
        "pauc_resnet50_cifar",
    ]


def test_the_bundled_folder_is_in_the_package() -> None:
    assert bundled_folder("pauc_resnet18") == Path(bundled.__file__).parents[1] / "weights" / TINY
