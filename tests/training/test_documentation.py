"""docs/training.md tells of every setting what training/config.py says of it, and names the files of a run."""

import ast
import dataclasses
import inspect
import json
import tomllib
from itertools import pairwise
from pathlib import Path

from pauc_hub.training import config
from pauc_hub.training.config import Config, from_mapping
from pauc_hub.training.run import checkpoint_files, run_folder

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text()


def meanings() -> dict[str, str]:
    """The string under each field."""
    tree = ast.parse(inspect.getsource(config))
    [body] = [node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Config"]
    found = {}
    for field, text in pairwise(body):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(meaning))):
                found[name] = meaning
    return found


def row(field: "dataclasses.Field[object]") -> str:
    chosen = "by size" if field.name == "blur_sigma" else "by N"
    default = chosen if field.default is None else f"`{json.dumps(field.default)}`"
    return f"| `{field.name}` | {default} | {meanings()[field.name].removesuffix('.')} |"


def test_the_table_of_settings_is_that_of_the_config() -> None:
    """To mend it: put what is expected here in place of the table's rows."""
    section = PAGE.partition("| setting | default | |\n| --- | --- | --- |\n")[2].partition("\n\n")[0]
    assert section.splitlines() == [row(field) for field in dataclasses.fields(Config)]


def test_the_defaults_can_be_copied_into_a_toml_file() -> None:
    cells = [row(field).split(" | ")[:2] for field in dataclasses.fields(Config) if field.default is not None]
    text = "\n".join(f"{name.strip('|` ')} = {default.strip('`')}" for name, default in cells)
    assert from_mapping(tomllib.loads(text), "the page") == Config()


def test_the_example_of_a_settings_file_is_one() -> None:
    text = PAGE.partition("```toml\n")[2].partition("```")[0]
    assert from_mapping(tomllib.loads(text), "the page").resolve(100_000).objective == "protonce"


def test_every_file_of_a_run_is_named() -> None:
    folders = (f"{run_folder.MODEL}/", f"{run_folder.TENSORBOARD}/", f"{checkpoint_files.FOLDER}/")
    shown = (run_folder.CURVES, run_folder.WANDB)
    for name in (run_folder.CONFIG, run_folder.METRICS, run_folder.UNREADABLE, *shown, *folders):
        assert f"| `{name}` |" in PAGE
