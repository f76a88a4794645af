"""`pauc models`: what -m takes."""

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from pauc_hub.cli import options
from pauc_hub.errors import UsageError


def models(
    query: Annotated[
        str | None,
        typer.Argument(metavar="[QUERY]", help="With --hub: word to search for in the names."),
    ] = None,
    timm: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            help="List timm's pretrained models whose names match, such as 'vit*dinov2*'.",
        ),
    ] = None,
    hub: Annotated[
        bool, typer.Option("--hub", help="List the models on the Hugging Face Hub tagged pauc-hub.")
    ] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """List the models that -m takes by name: the bundled ones, timm's, or those on the Hugging Face
    Hub.
    """
    if query is not None and not hub:
        raise UsageError(
            f"'{query}' is searched for on the Hub alone: `pauc models --hub {query}`."
        )
    if hub and timm is not None:
        raise UsageError("--hub and --timm are two lists. Give one.")
    if hub:
        from pauc_hub.hub.listing import list_hub  # imports huggingface_hub, which takes time

        entries = list_hub(query)
    elif timm is None:
        from pauc_hub.models.catalog import available_models

        entries = available_models()
    else:
        # imports timm, which takes seconds
        from pauc_hub.models.timm_registry import list_pretrained

        entries = list_pretrained(timm, quiet=quiet)
    if as_json:
        print(json.dumps({"models": [asdict(entry) for entry in entries]}))
        return
    widest = max(len(entry.name) for entry in entries)
    for entry in entries:
        print(f"{entry.name:{widest}}  {entry.description}")
    if timm is None and not hub and not quiet:
        print(
            "note: -m takes timm's as well: `pauc models --timm 'vit*dinov2*'` lists those",
            file=sys.stderr,
        )
