"""`pauc models`: what -m takes."""

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from pauc_hub.cli import options


def models(
    timm: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="List timm's pretrained models of such names: 'vit*dinov2*'.")
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """List the models that -m takes by name: the bundled ones, or timm's."""
    if timm is None:
        from pauc_hub.models.catalog import available_models

        entries = available_models()
    else:
        from pauc_hub.models.timm_registry import list_pretrained  # imports timm, which takes seconds

        entries = list_pretrained(timm, quiet=quiet)
    if as_json:
        print(json.dumps({"models": [asdict(entry) for entry in entries]}))
        return
    widest = max(len(entry.name) for entry in entries)
    for entry in entries:
        print(f"{entry.name:{widest}}  {entry.description}")
    if timm is None and not quiet:
        print("note: -m takes timm's as well: `pauc models --timm 'vit*dinov2*'` lists those", file=sys.stderr)
