"""Holds the arrows: `cli → training → pauc_hub`, in pauc_hub downstairs only; and the sizes and
names of files.
"""

import ast
from collections.abc import Collection, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from pauc_hub.cli import app

ROOT = Path(__file__).resolve().parent.parent
# each folder, and its name in imports
ROOMS = {"pauc_hub": "pauc_hub", "training": "pauc_hub.training", "cli": "pauc_hub.cli"}
FLOORS = (
    {"errors"},
    {"progress", "device", "processes", "origin", "memory", "suggestion", "terminal"},
    {"threads"},
    {"files"},
    {"images"},
    {"sources", "tables", "clustering", "evaluation"},
    {"models"},
    {"inference"},
    {"embedding", "retrieval", "hub"},
    {"answers"},
    {"exporting"},
)
BANNED = {"base.py", "common.py", "helpers.py", "utils.py"}  # names for drawers


def python_files(*folders: str) -> list[Path]:
    return sorted(
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if not through_link(path)
    )


def through_link(path: Path) -> bool:
    return path.resolve() != path


def module_name(path: Path) -> str:
    room, *inner = path.relative_to(ROOT).with_suffix("").parts
    return ".".join([ROOMS[room], *(part for part in inner if part != "__init__")])


def imported_names(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it, and `module.name` for each name taken from
    one.
    """
    package = (
        module_name(path) if path.name == "__init__.py" else module_name(path).rpartition(".")[0]
    )
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom():
                above = (
                    package.split(".")[: len(package.split(".")) - node.level + 1]
                    if node.level
                    else []
                )
                source = ".".join([*above, *([node.module] if node.module else [])])
                yield from (f"{source}.{alias.name}" for alias in node.names)
            case ast.Call(
                func=ast.Name(id=call) | ast.Attribute(attr=call),
                args=[ast.Constant(value=str(name)), *_],
            ):
                if call in ("import_module", "__import__"):
                    yield name


def modules_imported(path: Path, modules: Collection[str]) -> set[str]:
    """Those of `modules` that a file imports, whole or names of them."""
    names = (name if name in modules else name.rpartition(".")[0] for name in imported_names(path))
    return {name for name in names if name in modules}


def library_rooms(path: Path) -> set[str]:
    """The modules of pauc_hub proper that a file imports, by their short names."""
    ours = {name.split(".")[1] for name in imported_names(path) if name.startswith("pauc_hub.")}
    return (ours & {room_of(file) for file in python_files("pauc_hub")}) - {room_of(path)}


def room_of(path: Path) -> str:
    """The short name of a module of pauc_hub; all files of a package have that of the package."""
    return (
        path.relative_to(ROOT / "pauc_hub").parts[0].removesuffix(".py")
        if ROOT / "pauc_hub" in path.parents
        else ""
    )


def imports_room(path: Path, room: str) -> bool:
    return any(name == room or name.startswith(f"{room}.") for name in imported_names(path))


def floor(module: str) -> int:
    return next((level for level, modules in enumerate(FLOORS) if module in modules), len(FLOORS))


LIBRARY = [path for path in python_files("pauc_hub") if path != ROOT / "pauc_hub" / "__init__.py"]


def test_training_and_cli_are_links_in_the_package() -> None:
    for room in ("training", "cli"):
        link = ROOT / "pauc_hub" / room
        assert link.is_symlink()
        assert link.readlink() == Path("..") / room


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
def test_every_module_of_the_library_has_a_floor(path: Path) -> None:
    assert sum(room_of(path) in modules for modules in FLOORS) == 1, (
        f"give {room_of(path)} a floor in FLOORS"
    )


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
def test_the_library_imports_downstairs_only(path: Path) -> None:
    assert {room for room in library_rooms(path) if floor(room) >= floor(room_of(path))} == set()


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
def test_the_library_imports_neither_training_nor_cli(path: Path) -> None:
    rooms = ("pauc_hub.training", "pauc_hub.cli", "training", "cli")
    assert [room for room in rooms if imports_room(path, room)] == []


@pytest.mark.parametrize("path", python_files("training"), ids=lambda path: path.stem)
def test_training_never_imports_cli(path: Path) -> None:
    assert not imports_room(path, "pauc_hub.cli")


def in_circles(arrows: dict[str, set[str]]) -> set[str]:
    """Modules that import themselves by way of others, and those that import such ones.

    What imports nothing that is left goes out, again and again, until nothing more can go.
    """
    while free := {module for module, targets in arrows.items() if not targets & arrows.keys()}:
        arrows = {module: targets for module, targets in arrows.items() if module not in free}
    return set(arrows)


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Imports within functions count too; that of the package itself, for its version, does not."""
    files = {module_name(path): path for path in python_files(*ROOMS)}
    del files["pauc_hub"]
    arrows = {module: modules_imported(path, files.keys()) for module, path in files.items()}
    assert in_circles(arrows) == set()


def test_circles_are_found() -> None:
    arrows = {"a": {"b", "other"}, "b": {"c"}, "c": set(), "d": {"e"}, "e": {"f"}, "f": {"d"}}
    assert in_circles(arrows) == {"d", "e", "f"}


@pytest.mark.parametrize("path", python_files("training", "cli"), ids=lambda path: path.stem)
def test_rooms_are_imported_by_their_names_under_pauc_hub(path: Path) -> None:
    assert not imports_room(path, "training")
    assert not imports_room(path, "cli")


def test_one_file_alone_hooks_into_imports() -> None:
    hooks = [path.name for path in python_files(*ROOMS) if "meta_path" in path.read_text()]
    assert hooks == ["registration.py"]


@pytest.mark.parametrize(
    "path", python_files(*ROOMS, "tests", "benchmarks"), ids=lambda path: path.name
)
def test_files_say_what_they_are_for_and_stay_short(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "no docstring at the top"
    assert text.count("\n") <= 400, "a file over 400 lines is asking to be two"
    assert path.name not in BANNED


def test_imports_are_found_wherever_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The finder itself: without it the tests above would pass on anything."""
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    file = tmp_path / "training" / "loop.py"
    file.parent.mkdir()
    file.write_text(
        "import pauc_hub.tables.table\nfrom pauc_hub.models import folder\nfrom . import estep\n"
        "from ..inference import load\n"
        "def run():\n    from pauc_hub.embedding import embed_folder\n    "
        "import_module('pauc_hub.models.card')\n"
    )
    assert sorted(imported_names(file)) == [
        "pauc_hub.embedding.embed_folder",
        "pauc_hub.inference.load",
        "pauc_hub.models.card",
        "pauc_hub.models.folder",
        "pauc_hub.tables.table",
        "pauc_hub.training.estep",
    ]


def test_floors_are_disjoint() -> None:
    assert all(not lower & upper for lower, upper in pairwise(FLOORS))


def public_names(path: Path) -> dict[str, ast.stmt]:
    """What a file defines outside its functions and classes, but for names with `_` in front."""
    found: dict[str, ast.stmt] = {}
    for node in ast.parse(path.read_text()).body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                found[name] = node
            case ast.Assign(targets=targets):
                inner = (each for target in targets for each in ast.walk(target))
                names = (each for each in inner if isinstance(each, ast.Name))
                found |= {each.id: node for each in names if isinstance(each.ctx, ast.Store)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                found[name] = node
    return {name: node for name, node in found.items() if not name.startswith("_")}


def named_twice(paths: Collection[Path], verbs: Collection[str]) -> dict[str, list[str]]:
    """Names that stand for two things, with the files that define them.

    Args:
        verbs: functions that are commands, `module.name`.

    A verb of the command line is called as its function is, and an option's type in cli/options.py
    as what becomes of it. A constant may be a file's own affair: it counts once another file
    imports it.
    """
    imported = {name for path in paths for name in imported_names(path)}
    files: dict[str, list[Path]] = {}
    for path in paths:
        for name, node in public_names(path).items():
            alias = isinstance(node, ast.Assign) and not name.isupper()
            option = alias and path == ROOT / "cli" / "options.py"
            if not option and f"{module_name(path)}.{name}" not in verbs:
                files.setdefault(name, []).append(path)
    return {
        name: [str(path.relative_to(ROOT)) for path in found]
        for name, found in files.items()
        if len(found) > 1
        and (not name.isupper() or any(f"{module_name(path)}.{name}" in imported for path in found))
    }


def test_one_name_has_one_meaning() -> None:
    commands = [each.callback for each in app.registered_commands if each.callback]
    verbs = {f"{each.__module__}.{each.__name__}" for each in commands}
    assert named_twice(python_files(*ROOMS), verbs) == {}


def test_names_of_two_meanings_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    texts = {
        "pauc_hub/tables.py": "class Table: ...\nROWS, SUFFIX = 1, '.t'\nPages = list[int]\n",
        "pauc_hub/pages.py": "Pages: object = tuple\nROWS, SUFFIX = 2, '.p'\n_own = 1\n",
        "training/loop.py": "from pauc_hub.pages import SUFFIX\n_own = 2\ndef train(): ...\n",
        "cli/train.py": "def train(): ...\ndef told(): ...\n",
        "cli/options.py": "Table = object\nSUFFIX = '.o'\ndef told(): ...\nclass Pages: ...\n",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    paths = [tmp_path / name for name in texts]
    assert named_twice(paths, {"pauc_hub.cli.train.train"}) == {
        "Pages": ["pauc_hub/tables.py", "pauc_hub/pages.py", "cli/options.py"],
        "SUFFIX": ["pauc_hub/tables.py", "pauc_hub/pages.py", "cli/options.py"],
        "told": ["cli/train.py", "cli/options.py"],
    }
    assert "train" in named_twice(paths, set())
