"""`pauc models`, `pauc --help` and `pauc --version`: quick answers."""

import json
import subprocess
import sys

import pytest

import pauc_hub
from pauc_hub.cli import run
from pauc_hub.models.bundled import ARCHITECTURES, architecture_of, bundled_folders

HEAVY = (
    "torch",
    "torchvision",
    "timm",
    "pyarrow",
    "PIL",
    "numpy",
    "safetensors",
    "pauc_hub.inference.streaming",
    "pauc_hub.inference.model",
)


def test_lists_what_is_bundled_and_what_is_not_yet(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    bundled = [path.name for path in bundled_folders()]
    bare = ARCHITECTURES.keys() - {architecture_of(name) for name in bundled}
    assert [line.split()[0] for line in lines] == sorted([*bundled, *bare])
    assert lines[-1].endswith("resnet50 with a CIFAR stem; no weights yet")


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "--json"]) == 0
    models = json.loads(capsys.readouterr().out)["models"]
    assert {
        "name": "pauc_resnet50_cifar",
        "has_weights": False,
        "description": "resnet50 with a CIFAR stem; no weights yet",
    } in models
    assert [model["name"] for model in models if model["has_weights"]] == [
        path.name for path in bundled_folders()
    ]


def test_the_bundled_come_first_and_a_note_leads_to_timms(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["models"]) == 0
    note = "note: -m takes timm's as well: `pauc models --timm 'vit*dinov2*'` lists those\n"
    assert capsys.readouterr().err == note
    assert run(["models", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_timms_pretrained_models_with_width_and_side(capsys: pytest.CaptureFixture[str]) -> None:
    """The width is the network's: mobilenetv3_small's configuration says 576."""
    assert run(["models", "--timm", "timm/mobilenetv3_small_05*"]) == 0
    assert capsys.readouterr().out == "mobilenetv3_small_050.lamb_in1k  1024 numbers from 224 px\n"
    assert run(["models", "--timm", "test_resnet", "--json"]) == 0
    entry = {
        "name": "test_resnet.r160_in1k",
        "has_weights": True,
        "description": "96 numbers from 160 px",
    }
    assert json.loads(capsys.readouterr().out) == {"models": [entry]}


def test_a_pattern_that_fits_nothing_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "--timm", "resnt50*"]) == 1
    line = "error: timm has no pretrained model named 'resnt50*'. Did you mean 'resnet50'?\n"
    assert capsys.readouterr() == ("", line)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"pauc-hub {pauc_hub.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_names_commands_and_exit_codes(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 0
    shown = capsys.readouterr().out
    for word in (
        "embed",
        "train",
        "models",
        "--debug",
        "--version",
        "Exit codes",
        "130 interrupted",
    ):
        assert word in shown


@pytest.mark.parametrize("command", ["embed", "train", "models"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    assert f"pauc {command}" in capsys.readouterr().out


QUICK = ["[]", "['--help']", "['--version']", "['embed', '--help']", "['models', '--quiet']"]


@pytest.mark.parametrize("arguments", QUICK)
def test_nothing_heavy_is_imported_for_a_quick_answer(arguments: str) -> None:
    ask = f"""
import sys
from pauc_hub import cli
code = cli.run({arguments})
found = [name for name in {HEAVY} if name in sys.modules]
print(code, found, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert done.stderr == "0 []\n"
