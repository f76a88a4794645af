"""What the sections of docs/speed.md are made of: results, one part a machine, tables, and where a
figure is from.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


def results(start: str) -> list[dict[str, Any]]:
    """Those whose files begin so, one a machine; what is still being measured is none."""
    paths = [
        path
        for path in sorted(RESULTS.glob(f"{start}*.json"))
        if not path.match("*.unfinished.json")
    ]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def section(title: str, start: str, told: Callable[[dict[str, Any]], str]) -> str:
    """One question, answered for each machine that it was asked on; nothing where it was asked on
    none.
    """
    answers = [f"\n### {machine(found)}\n{told(found)}" for found in results(start)]
    return "".join([f"\n## {title}\n", *answers]) if answers else ""


def machine(found: dict[str, Any]) -> str:
    hardware = found["hardware"]
    return (
        f"{hardware['name'].removesuffix(' Processor')}, {hardware['cores']} cores, "
        f"{hardware['memory_gb']} GB"
    )


def place(found: dict[str, Any]) -> str:
    count = found["command"].partition("--repetitions ")[2].split()[0]
    times = "once" if count == "1" else f"{count} times, medians"
    return f"`{found['command']}`, {times}; commit {found['commit']}."


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
