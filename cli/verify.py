"""`pauc verify`: whether a model is what it says it is."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from pauc_hub.cli import options


def verify(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=options.MODEL)],
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Check a model: checksums, format, weights, and that card and facts agree."""
    from pauc_hub.hub.verify import verify as verify_model

    verified = verify_model(model, quiet=quiet)
    if as_json:
        print(json.dumps(asdict(verified)))
    elif not quiet:
        print(f"{verified.model}: all holds: {', '.join(verified.checks)}")
