"""The wheel as a user gets it: built from the source archive, installed outside the checkout, and
run on the samples.

Installing torch again would take minutes and gigabytes. So the new environment borrows third-party
packages of the one that runs the tests (a .pth file appends its folder to the path), and nothing of
ours: a test checks where that is from.
"""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from pauc_hub.models.bundled import bundled_folder
from pauc_hub.models.catalog import DEFAULT_MODEL
from pauc_hub.models.folder import open_folder

# Of a file, where wheels are published; what is too large goes to models/hub_weights.py.
LIMIT = 100_000_000
ROOT = Path(__file__).resolve().parent.parent.parent
INGREDIENTS = ("pyproject.toml", "README.md", "LICENSE", "pauc_hub", "training", "cli")
SAMPLES = ROOT / "examples" / "images"


def run(*command: str | Path, cwd: Path, status: int = 0) -> str:
    """What the command prints to stdout; its exit status must be as expected."""
    ours = ("PYTHON", "PIP_", "COVERAGE", "HF_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment |= {"HF_HUB_OFFLINE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == status, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def pip(*arguments: str | Path, cwd: Path) -> str:
    return run(sys.executable, "-m", "pip", *arguments, cwd=cwd)


@dataclass(frozen=True)
class Installed:
    archive: Path  # .tar.gz
    wheel: Path
    environment: Path
    outside: Path  # an empty folder, the working directory of what is run

    @property
    def python(self) -> Path:
        return self.environment / "bin" / "python"

    @property
    def packages(self) -> Path:
        return next((self.environment / "lib").glob("python*/site-packages"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("wheel")
    source, built, environment, outside = (
        folder / name for name in ("source", "built", "environment", "outside")
    )
    for made in (source, built, outside):
        made.mkdir()
    # building leaves files behind
    run("cp", "-a", *(ROOT / name for name in INGREDIENTS), source, cwd=ROOT)
    build = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    run(sys.executable, "-c", build, built, cwd=source)
    archive = next(built.glob("*.tar.gz"))
    pip("wheel", "-q", "--no-deps", "--no-build-isolation", "-w", built, archive, cwd=outside)
    wheel = next(built.glob("*.whl"))
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=outside)
    result = Installed(archive, wheel, environment, outside)
    pip("--python", result.python, "install", "-q", "--no-deps", wheel, cwd=outside)
    (result.packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    return result


def in_checkout() -> set[str]:
    """All that must be installed, by its path in the wheel: the code of the three rooms, and the
    weights.
    """
    code = {
        path.relative_to(ROOT)
        for room in ("pauc_hub", "training", "cli")
        for path in (ROOT / room).rglob("*.py")
    }
    inside = {f"pauc_hub/{path}" if path.parts[0] != "pauc_hub" else str(path) for path in code}
    weights = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "pauc_hub" / "weights").rglob("*")
        if path.is_file()
    }
    return inside | weights | {"pauc_hub/py.typed"}


def test_the_wheel_holds_all_of_pauc_hub_and_nothing_else(installed: Installed) -> None:
    names = zipfile.ZipFile(installed.wheel).namelist()
    assert in_checkout() <= set(names)
    assert installed.wheel.stat().st_size < LIMIT
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"pauc_hub"}


def test_the_source_archive_holds_all_that_the_wheel_does(installed: Installed) -> None:
    with tarfile.open(installed.archive) as archive:
        files = {member.name.partition("/")[2] for member in archive if member.isfile()}
    assert in_checkout() | {"LICENSE", "README.md", "pyproject.toml"} <= files


def test_site_packages_gets_pauc_hub_alone(installed: Installed) -> None:
    ours = {
        path.name.partition("-")[0]
        for path in installed.packages.iterdir()
        if not path.name.startswith("borrowed")
    }
    assert ours == {"pauc_hub"}


def test_requirements_of_the_wheel_are_met_by_the_pins(installed: Installed) -> None:
    assert "No broken requirements" in pip(
        "--python", installed.python, "check", cwd=installed.outside
    )


def test_the_package_is_the_wheels_own(installed: Installed) -> None:
    """And neither `training` nor `cli` is a top-level module, nor is anything of the checkout on
    the path.
    """
    ask = (
        "import json, sys, pauc_hub, pauc_hub.cli, pauc_hub.training, importlib.util as u\n"
        "found = [name for name in ('training', 'cli') if u.find_spec(name)]\n"
        "files = [m.__file__ for m in (pauc_hub, pauc_hub.cli, pauc_hub.training)]\n"
        "print(json.dumps([files, found, pauc_hub.__version__]))"
    )
    files, top_level, version = json.loads(run(installed.python, "-c", ask, cwd=installed.outside))
    assert all(Path(file).is_relative_to(installed.packages) for file in files)
    assert top_level == []
    assert installed.wheel.name.startswith(f"pauc_hub-{version}-")


def test_embeds_the_sample_images(installed: Installed) -> None:
    table = installed.outside / "samples.parquet"
    pauc = installed.environment / "bin" / "pauc"
    said = json.loads(
        run(pauc, "embed", SAMPLES, "--output", table, "--json", cwd=installed.outside)
    )
    images = sum(path.is_file() for path in SAMPLES.rglob("*.*"))
    default = bundled_folder(DEFAULT_MODEL)
    assert default
    assert (said["images"], said["unreadable"], said["width"]) == (
        images,
        0,
        open_folder(default).num_features,
    )
    assert table.is_file()
