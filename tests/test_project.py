"""Holds pyproject.toml, requirements.txt and the code together: imports are declared, and declared
is pinned.
"""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pauc_hub.cli import app

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = [
    line
    for line in (ROOT / "requirements.txt").read_text().splitlines()
    if not line.startswith("#")
]
DECLARED = [Requirement(text) for text in PROJECT["dependencies"]]
# In extras that nothing installs by itself.
OPTIONAL = {
    "faiss",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "pillow_heif",
    "scipy",
    "sklearn",
    "wandb",
}


def pinned_versions() -> dict[str, str]:
    return {
        canonicalize_name(name): version
        for name, _, version in (line.partition("==") for line in PINS)
    }


def imported_packages() -> set[str]:
    """Top-level names that the three rooms import from elsewhere."""
    files = [
        path for room in ("pauc_hub", "training", "cli") for path in (ROOT / room).rglob("*.py")
    ]
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text()))]
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    taken = {
        node.module
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module and not node.level
    }
    return (
        {name.partition(".")[0] for name in plain | taken}
        - sys.stdlib_module_names
        - {"pauc_hub"}
        - OPTIONAL
    )


def test_pins_are_exact_and_name_no_place() -> None:
    assert [
        line for line in PINS if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)
    ] == []


@pytest.mark.parametrize(
    "requirement",
    [*DECLARED, *map(Requirement, PROJECT["optional-dependencies"]["test"])],
    ids=lambda requirement: requirement.name,
)
def test_pins_lie_in_the_ranges(requirement: Requirement) -> None:
    assert requirement.specifier.contains(pinned_versions()[canonicalize_name(requirement.name)])


def test_what_is_imported_is_declared_and_the_other_way_round() -> None:
    owners = packages_distributions()
    imported = {canonicalize_name(owner) for name in imported_packages() for owner in owners[name]}
    implied = {"torchvision"}  # timm imports it, and its binary must match torch
    assert imported | implied == {canonicalize_name(requirement.name) for requirement in DECLARED}


def test_samples_are_small_and_each_has_a_source() -> None:
    folder = ROOT / "examples" / "images"
    # all files, since `pauc embed` warns of those that it passes over
    samples = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    entries = set(
        re.findall(r"^- `(.+?)`: ", (folder.parent / "SOURCES.md").read_text(), re.MULTILINE)
    )
    assert samples.keys() == entries
    assert 10 <= len(samples) <= 20
    assert sum(path.stat().st_size for path in samples.values()) < 3_000_000


def test_the_readme_names_every_command() -> None:
    readme = (ROOT / "README.md").read_text()
    names = [
        each.name or each.callback.__name__ for each in app.registered_commands if each.callback
    ]
    assert [
        name
        for name in names
        if f"| `pauc {name}`" not in readme and f", `pauc {name}` |" not in readme
    ] == []
