"""docs/settings.md describes every setting as training/config.py does; docs/monitoring.md names the
files of a run.
"""

import dataclasses
import json
import re
import tomllib
from pathlib import Path

from pauc_hub.training.config import Config
from pauc_hub.training.run import checkpoint_files, run_folder
from pauc_hub.training.settings import DERIVED, Setting, all_settings, from_mapping

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "settings.md").read_text()


def row(setting: Setting, default: object) -> str:
    typed = DERIVED if default is None else f"`{json.dumps(default)}`"
    return f"| `{setting.name}` | {typed} | {setting.unit} | {setting.meaning.removesuffix('.')} |"


def rows() -> list[str]:
    defaults = [field.default for field in dataclasses.fields(Config)]
    return [
        row(setting, default) for setting, default in zip(all_settings(), defaults, strict=True)
    ]


def test_the_table_of_settings_is_that_of_the_config() -> None:
    """To mend it: put what is expected here in place of the table's rows."""
    section = PAGE.partition("| setting | default | unit | |\n| --- | --- | --- | --- |\n")[
        2
    ].partition("\n\n")[0]
    assert section.splitlines() == rows()


def test_the_defaults_can_be_copied_into_a_toml_file() -> None:
    cells = [cells[:2] for row in rows() if (cells := row.split(" | "))[1] != DERIVED]
    text = "\n".join(f"{name.strip('|` ')} = {default.strip('`')}" for name, default in cells)
    assert from_mapping(tomllib.loads(text), "the page") == Config()


def test_the_example_of_a_settings_file_is_one() -> None:
    text = PAGE.partition("```toml\n")[2].partition("```")[0]
    assert from_mapping(tomllib.loads(text), "the page").resolve(100_000).objective == "protonce"


def test_every_file_of_a_run_is_named() -> None:
    page = (DOCS / "monitoring.md").read_text()
    folders = (f"{run_folder.MODEL}/", f"{run_folder.TENSORBOARD}/", f"{checkpoint_files.FOLDER}/")
    shown = (run_folder.RUN_CURVES, run_folder.WANDB)
    for name in (run_folder.CONFIG, run_folder.METRICS, run_folder.UNREADABLE, *shown, *folders):
        assert f"| `{name}` |" in page


def test_every_link_between_the_pages_leads_somewhere() -> None:
    pages = [DOCS.parent / "README.md", DOCS.parent / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
    links = [
        (page, link) for page in pages for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    ]
    local = [(page, *link.partition("#")[::2]) for page, link in links if "://" not in link]
    broken = [
        f"{page.name}: {file}#{anchor}"
        for page, file, anchor in local
        if not (target := page.parent / file if file else page).exists()
        or (anchor and anchor not in _anchors(target.read_text()))
    ]
    assert local
    assert broken == []


def _anchors(page: str) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
