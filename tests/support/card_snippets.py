"""The Python on a model card, so that tests run what users are told to type."""

import re
from pathlib import Path
from typing import Any


def snippets(card: Path) -> list[str]:
    """The blocks of Python, in order."""
    return re.findall(r"```python\n(.*?)```", card.read_text(encoding="utf-8"), flags=re.DOTALL)


def run_snippet(code: str, folder: Path) -> dict[str, Any]:
    """Run it on a model folder, where cat.jpg and dog.jpg are; returns the names it defines."""
    names: dict[str, Any] = {}
    exec(code.replace("path/to/this/folder", str(folder)), names)
    return names
