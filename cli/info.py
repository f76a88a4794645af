"""`pauc info`: what made a file, and from what."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer

from pauc_hub.cli import options


def info(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="Model folder, run, table, prototypes file, probe or exported model.",
        ),
    ],
    as_json: options.Json = False,
) -> None:
    """Show what made a file, from what, and whether it can be reproduced here."""
    from pauc_hub.hub.info import info as read_info

    found = read_info(file)
    if as_json:
        print(json.dumps(asdict(found) | {"path": str(found.path)}, ensure_ascii=False))
        return
    print(f"{found.path}: {found.kind}")
    for line in _lines(found.facts, "  "):
        print(line)
    print(f"  can be made again: {found.again}")


def _lines(facts: Mapping[str, Any], margin: str) -> list[str]:
    lines: list[str] = []
    for name, value in facts.items():
        if isinstance(value, dict):
            lines += [f"{margin}{name}:", *_lines(value, f"{margin}  ")]
        else:
            lines.append(f"{margin}{name}: {value}")
    return lines
