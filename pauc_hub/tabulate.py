"""A list of images to an embedding table, by way of a working folder, so that no stop loses work. N images, D width."""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

import pauc_hub
from pauc_hub.embed import BATCHES_AHEAD, Decoded, Encoder, choose_decoder, decode_ahead, encode, square
from pauc_hub.errors import Interrupted, NoImages
from pauc_hub.images import ImageFile, UnreadableImage, read_with, readable
from pauc_hub.outputs import open_output
from pauc_hub.plan import Plan, fingerprint
from pauc_hub.progress import progress_bar
from pauc_hub.shards import Outcomes
from pauc_hub.table import Provenance, Unreadable, errors_path, write_errors
from pauc_hub.workspace import Workspace, open_workspace


@dataclass(frozen=True)
class Summary:
    """What embed_files did."""

    images: int
    """Rows of the table."""
    unreadable: int
    """Rows of the errors table."""
    resumed: int
    """Images of both that an earlier sitting had done."""
    width: int
    seconds: float
    output: Path
    errors: Path | None
    """The errors table, where there is one."""


def embed_files(
    encoder: Encoder,
    images: Sequence[ImageFile],
    output: Path,
    *,
    root: Path,
    space: str = "backbone",
    batch_size: int = 64,
    workers: int | None = None,
    overwrite: bool = False,
    restart: bool = False,
    quiet: bool = False,
) -> Summary:
    """Write the embedding table of `images`, in their order; those that cannot be read go to a table of their own.

    Whatever stops it, the same call goes on where it stopped, and makes the table that it would have made at once.

    Args:
        images: what find_images(root) gives.
        workers: threads that decode; one for each core unless given.
        overwrite: whether a table that is there may be replaced, once the new one is whole.
        restart: drop what a stopped run has done.
        quiet: no progress bar.

    Raises:
        OutputExists, UsageError: the table cannot be written there; nothing was read then.
        UnfinishedRun: a stopped run for this output was about something else.
        NoImages: not one image could be read; only the errors table is written.
        Interrupted: by Ctrl-C; what is done is saved.
    """
    started = time.monotonic()
    names = (image.name for image in images)
    plan = Plan(_provenance(encoder, space, root), encoder.width_in(space), len(images), fingerprint(names))
    work: Workspace | None = None
    try:
        with open_workspace(output, plan, overwrite=overwrite, restart=restart) as work:
            resumed = work.done
            _embed(encoder, images, work, space, batch_size, workers, quiet)
            unreadable = _make_tables(work, plan)
    except KeyboardInterrupt as stop:
        done = work.done if work else 0
        raise Interrupted(
            f"interrupted; {done} of {len(images)} images are done, and the same command goes on from there."
        ) from stop
    seconds, errors = time.monotonic() - started, errors_path(output) if unreadable else None
    return Summary(len(images) - unreadable, unreadable, resumed, plan.width, seconds, output, errors)


def _embed(
    encoder: Encoder,
    images: Sequence[ImageFile],
    work: Workspace,
    space: str,
    batch_size: int,
    workers: int | None,
    quiet: bool,
) -> None:
    """Embed what is not done yet; the batches are those of a run that was never stopped where it stopped after one."""
    decoder = choose_decoder(encoder)

    def read(image: ImageFile) -> Decoded | Unreadable:
        try:
            return square(image.name, read_with(decoder, image.path), encoder.preprocessing)
        except UnreadableImage as refusal:
            return Unreadable(image.name, refusal.kind, refusal.message)

    left = islice(images, work.done, None)
    with (
        progress_bar(len(images), "embedding", quiet=quiet, done=work.done) as bar,
        closing(decode_ahead(read, left, workers, BATCHES_AHEAD * batch_size)) as results,
    ):
        while group := list(islice(results, batch_size)):
            work.add(_outcomes(encoder, group, space))
            bar.advance(len(group))
    work.save()


def _outcomes(encoder: Encoder, group: Sequence[Decoded | Unreadable], space: str) -> Outcomes:
    decoded = [result for result in group if isinstance(result, Decoded)]
    unreadable = [result for result in group if isinstance(result, Unreadable)]
    width = encoder.width_in(space)
    embeddings = encode(encoder, decoded, space) if decoded else np.empty((0, width), dtype=np.float32)
    sizes = np.array([image.size for image in decoded], dtype=np.int32).reshape(-1, 2)
    return Outcomes([image.name for image in decoded], embeddings, sizes, unreadable)


def _make_tables(work: Workspace, plan: Plan) -> int:
    """Join what is done into the table and the errors table; returns the rows of the latter."""
    folder, output = work.making(), work.output
    errors = folder / errors_path(output).name
    unreadable = write_errors(errors, (reason for part in work.outcomes() for reason in part.unreadable))
    if not unreadable:
        errors.unlink()
    if unreadable and unreadable == work.images:
        first = next(reason for part in work.outcomes() for reason in part.unreadable)
        work.publish()
        raise _none_readable(first, unreadable, errors_path(output))
    with open_output(folder / output.name, plan.width, work.images - unreadable, plan.provenance) as table:
        for part in work.outcomes():
            table.write(part.paths, part.embeddings, part.sizes)
    work.publish()
    return unreadable


def _none_readable(first: Unreadable, count: int, path: Path) -> NoImages:
    return NoImages(
        f"none of {count} images could be read; '{first.path}': {first.message}. All are listed in '{path}'."
    )


def _provenance(encoder: Encoder, space: str, root: Path) -> Provenance:
    return Provenance(
        model=encoder.name,
        weights_sha256=encoder.weights_sha256,
        space=space,
        preprocessing=encoder.preprocessing.to_config(),
        precision=encoder.precision,
        root=readable(root.absolute()),
        package_version=pauc_hub.__version__,
    )
