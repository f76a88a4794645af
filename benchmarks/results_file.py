"""A file of results that grows by a run at a time, so that a stopped benchmark goes on where it
was.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from measuring import rounded


class Results:
    """The file of results: read at the start, written after each run."""

    def __init__(self, path: Path, question: str, about: Mapping[str, Any]) -> None:
        """`about` is what all runs share.

        Raises:
            SystemExit: the file holds runs that were trained otherwise.
        """
        self._path = path
        self._content: dict[str, Any] = {"question": question, "about": rounded(about), "runs": {}}
        if path.exists():
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["about"] != json.loads(json.dumps(self._content["about"])):
                raise SystemExit(
                    f"error: '{path}' holds runs on other images or settings. Name another "
                    "file: --result."
                )
            self._content["runs"] = kept["runs"]

    def __contains__(self, key: str) -> bool:
        return key in self._content["runs"]

    def add(self, key: str, found: Mapping[str, Any]) -> None:
        self._content["runs"][key] = rounded(dict(found))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._path.with_name(f"{self._path.name}.new")
        unfinished.write_text(
            json.dumps(self._content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        unfinished.replace(self._path)
