"""`pauc push`: a trained model to the Hugging Face Hub."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from pauc_hub.cli import options

if TYPE_CHECKING:  # takes seconds to import
    from pauc_hub.hub.push import Pushed


def push(
    model: Annotated[
        str,
        typer.Argument(metavar="RUN|MODEL", help="A run, a model folder, or a bundled model."),
    ],
    repository: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help="Repository; created if missing.")
    ],
    private: Annotated[
        bool, typer.Option("--private", help="Make a new repository private.")
    ] = False,
    revision: Annotated[
        str | None, typer.Option(help="Branch; created if missing (default: main).")
    ] = None,
    create_pr: Annotated[
        bool, typer.Option("--create-pr", help="Open a pull request instead.")
    ] = False,
    message: Annotated[str | None, typer.Option(help="Commit message.")] = None,
    gallery: Annotated[
        str | None,
        typer.Option(
            metavar="IMAGES", help="Images for a gallery on the card; whoever sees it sees them."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="List the files, their sizes and the card; push nothing."),
    ] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Push a model to the Hugging Face Hub, in one commit."""
    from pauc_hub.hub.push import push as push_model

    picture = None
    if gallery is not None:
        # imports torch, which takes seconds
        from pauc_hub.answers.gallery import gallery as make_gallery

        picture = make_gallery(gallery, model, quiet=quiet)
    pushed = push_model(
        model,
        repository,
        private=private,
        revision=revision,
        create_pr=create_pr,
        message=message,
        gallery=picture,
        dry_run=dry_run,
        quiet=quiet,
    )
    if as_json:
        print(json.dumps(asdict(pushed)))
    elif dry_run:
        print(_preview(pushed))
    elif not quiet:
        print(_sentence(pushed))


def _preview(pushed: "Pushed") -> str:
    widest = max(len(name) for name in pushed.files)
    files = [f"{name:{widest}}  {size:>13,} bytes" for name, size in pushed.files.items()]
    total = (
        f"{sum(pushed.files.values()):,} bytes in {len(pushed.files)} files would go to "
        f"{pushed.url}"
    )
    return "\n".join([*files, total, "", pushed.card.rstrip()])


def _sentence(pushed: "Pushed") -> str:
    if not pushed.changed:
        return (
            f"{pushed.url}: nothing to do, all {len(pushed.files)} files are there (commit "
            f"{pushed.commit[:12]})"
        )
    count = f"{len(pushed.changed)} file{'s' if len(pushed.changed) > 1 else ''}"
    return f"{pushed.url}: {count} changed; load it with -m hf-hub:{pushed.repository}"
