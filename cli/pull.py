"""`pauc pull`: a model folder from the Hugging Face Hub."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pauc_hub.cli import options


def pull(
    repository: Annotated[
        str, typer.Argument(metavar="OWNER/NAME[@REVISION]", help="Repository to fetch.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder to write (default: NAME).", show_default=False),
    ] = None,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Fetch a model folder from the Hugging Face Hub and check every file."""
    from pauc_hub.hub.pull import pull as pull_model

    pulled = pull_model(repository, output, overwrite=overwrite, quiet=quiet)
    if as_json:
        print(json.dumps(asdict(pulled) | {"output": str(pulled.output)}))
    elif not quiet:
        total = f"{len(pulled.files)} files, {sum(pulled.files.values()):,} bytes"
        print(f"{pulled.output}: {total} of commit {pulled.commit[:12]}, every sha256 compared")
