"""Images to an embedding table, by way of a working folder, so that no stop loses work. N images, D
width.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

import pauc_hub
from pauc_hub.embedding.bytes_sum import opened_sum
from pauc_hub.embedding.earlier import find_complete, open_earlier
from pauc_hub.embedding.joining import join_parts
from pauc_hub.embedding.plan import Form, Plan
from pauc_hub.embedding.shards import Outcomes
from pauc_hub.embedding.update import Additions
from pauc_hub.embedding.workspace import Workspace, finish_moving, open_workspace
from pauc_hub.errors import Interrupted, UsageError
from pauc_hub.images.decoding import FEW_LEVELS, MORE_PAGES, UnreadableImage, read_with
from pauc_hub.images.reading import PLAIN, Reading
from pauc_hub.inference.features import features
from pauc_hub.inference.streaming import (
    BATCHES_AHEAD,
    BatchEncoder,
    Decoded,
    batch_encoder,
    choose_decoder,
    square,
)
from pauc_hub.progress import progress_bar
from pauc_hub.sources import Entry, Source
from pauc_hub.tables.table import Provenance, Unreadable, errors_path
from pauc_hub.threads import decode_ahead

AS_GIVEN = Form()
SIDES_KEPT = 1000
Read = tuple[Decoded | Unreadable, str | None, float]
"""An image or why there is none, its sha256, and when its file was changed, in seconds since
1970.
"""
_Group = Sequence[Read]
"""A batch as it was read."""


@dataclass(frozen=True)
class Summary:
    """What embed_files did."""

    images: int
    """Rows of the table."""
    unreadable: int
    """Rows of the errors table."""
    resumed: int
    """Images of both that were done before: in an earlier sitting, or in the table that was
    updated.
    """
    width: int
    seconds: float
    output: Path
    errors: Path | None
    """The errors table, where there is one."""
    model: str
    """Its name."""
    space: str
    precision: str
    device: str = "cpu"
    image_size: int | None = None
    """Side of the square that the network saw, in pixels."""
    median_side: int | None = None
    """Of the shorter sides of the images, in pixels, over the first thousand of this sitting."""
    few_levels: int = 0
    """Images that were embedded with few levels of grey left of many: their value range may not
    fit.
    """
    more_pages: int = 0
    """Files with more pages than the first, which was embedded."""
    passed_over: Mapping[str, int] = field(default_factory=dict)
    """Files among the images that are none, by suffix."""

    @property
    def done_before(self) -> bool:
        """Whether there was nothing to do."""
        return self.resumed == self.images + self.unreadable


def embed_files(
    encoder: BatchEncoder,
    source: Source,
    output: Path,
    *,
    space: str = "backbone",
    batch_size: int = 64,
    workers: int | None = None,
    lanes: int = 1,
    decoding: str = "exact",
    reading: Reading = PLAIN,
    form: Form = AS_GIVEN,
    overwrite: bool = False,
    restart: bool = False,
    update: bool = False,
    part: bool = False,
    quiet: bool = False,
) -> Summary:
    """Write the embedding table of a source, in its order; images that cannot be read go to a table
    of their own.

    Whatever stops it, the same call goes on where it stopped, and makes the table that it would
    have made at once. Where that table is there already, it does nothing.

    Args:
        source: what open_source() gives.
        output: its suffix says which kind of file; outputs.py has them.
        workers: threads that decode; one for each core unless given.
        lanes: batches that go through the network at the same time; device.side_by_side() says how
            many do well.
        decoding: `exact`, or `scaled` for large JPEGs at a fraction of their sides, quicker and
            less exact.
        reading: which numbers are black and white where they are no bytes, and which bands are
            colours; choose_reading() says what suits the source, or what it was when a stopped run
            began.
        form: of the numbers.
        overwrite: whether a table that is there may be replaced, once the new one is whole.
        restart: drop what a stopped run has done.
        update: take over from the table that is there what did not change since, and embed the rest
            alone.
        part: of a table that several processes write; it may be empty.
        quiet: no progress bar.

    Raises:
        OutputExists, UsageError: the table cannot be written there; nothing was read then.
        UnfinishedRun: a stopped run for this output was about something else.
        NoImages: not one image could be read; only the errors table is written.
        Interrupted: by Ctrl-C; what is done is saved.
    """
    started = time.monotonic()
    provenance = _provenance(encoder, space, decoding, reading, source.root)
    whole = Plan(provenance, encoder.width_in(space), *source.listing())
    form.require_fit(whole)
    _require_sense(form, overwrite=overwrite, update=update, part=part)
    finish_moving(output)
    earlier = open_earlier(output, whole, form) if update else None
    todo = Additions(source, earlier.names, earlier.newest) if earlier else source
    plan = Plan(whole.provenance, whole.width, *todo.listing()) if earlier else whole
    fills = earlier is not None and (plan.images != 0 or earlier.lacks_sums)
    if not overwrite and not fills and (counts := find_complete(output, whole, form, update)):
        return _summary(output, counts, sum(counts), started, form.width(whole), whole.provenance)
    work: Workspace | None = None
    try:
        with open_workspace(output, plan, overwrite=overwrite or update, restart=restart) as work:
            resumed = work.done
            sides = _embed(
                encoder,
                todo,
                plan.images,
                work,
                form,
                space,
                batch_size,
                workers,
                lanes,
                decoding,
                reading,
                quiet,
            )
            done, remarks = work.done, work.remarks
            counts = join_parts(work, whole, form, part=part, source=source, earlier=earlier)
    except KeyboardInterrupt as stop:
        raise _interrupted(work.done if work else 0, plan.images) from stop
    summary = _summary(
        output, counts, sum(counts) - done + resumed, started, form.width(whole), whole.provenance
    )
    median = int(np.median(sides)) if sides else None
    return replace(
        summary, few_levels=remarks[FEW_LEVELS], more_pages=remarks[MORE_PAGES], median_side=median
    )


def _require_sense(form: Form, *, overwrite: bool, update: bool, part: bool) -> None:
    if update and overwrite:
        raise UsageError(
            "update=True keeps what overwrite=True would make anew: give one of the two."
        )
    if part and update:
        raise UsageError("update=True is the work of one process: give it without torchrun.")
    if part and form.pca:
        raise UsageError(
            f"pca={form.pca} is the work of one process, since all images share one: leave it out."
        )


def _summary(
    output: Path,
    counts: tuple[int, int],
    resumed: int,
    started: float,
    width: int,
    provenance: Provenance,
) -> Summary:
    images, unreadable = counts
    return Summary(
        images=images,
        unreadable=unreadable,
        resumed=resumed,
        width=width,
        seconds=time.monotonic() - started,
        output=output,
        errors=errors_path(output) if unreadable else None,
        model=provenance.model,
        space=provenance.space,
        precision=provenance.precision,
    )


def _interrupted(done: int, images: int | None) -> Interrupted:
    count = f"{done} images" if images is None else f"{done} of {images} images"
    return Interrupted(f"interrupted; {count} are done, and the same command goes on from there.")


def _embed(
    encoder: BatchEncoder,
    source: Source,
    images: int | None,
    work: Workspace,
    form: Form,
    space: str,
    batch_size: int,
    workers: int | None,
    lanes: int,
    decoding: str,
    reading: Reading,
    quiet: bool,
) -> list[int]:
    """Embed what is not done yet; the batches are those of a run that was never stopped where it
    stopped after one.

    Returns:
        The shorter sides of the first images.
    """
    sides: list[int] = []
    decoder = choose_decoder(encoder, decoding)

    def read(entry: Entry) -> Read:
        try:
            newest = entry.modified() or 0.0
        except OSError:
            newest = 0.0
        try:
            file = entry.open()
            # a path is hashed once reading it has shown that it is no pipe; what is open is closed
            # by then
            found = None if isinstance(file, Path) else opened_sum(file)
            image = square(entry.name, read_with(decoder, file, reading), encoder.preprocessing)
            return image, opened_sum(file) if isinstance(file, Path) else found, newest
        except UnreadableImage as refusal:
            return Unreadable(entry.name, refusal.kind, refusal.message), None, newest

    encode = batch_encoder(encoder, space)

    def embed(group: _Group) -> Tensor:
        return encode([result for result, _, _ in group if isinstance(result, Decoded)])

    with (
        progress_bar(images, "embedding", quiet=quiet, done=work.done) as bar,
        closing(
            decode_ahead(read, source.entries(work.done), workers, BATCHES_AHEAD * batch_size)
        ) as results,
    ):
        groups = iter(lambda: list(islice(results, batch_size)), [])
        for rows, group in features(embed, groups, lanes=lanes):
            outcomes = _outcomes(rows.numpy(), group)
            work.add(outcomes)
            form.require_room(outcomes.paths, outcomes.embeddings)
            bar.advance(outcomes.count)
            sides += outcomes.sizes.min(axis=1).tolist()[: SIDES_KEPT - len(sides)]
    work.save()
    return sides


def _outcomes(embeddings: npt.NDArray[np.float32], group: _Group) -> Outcomes:
    """What became of a batch.

    Args:
        embeddings: (n, D), of those that could be read.
    """
    decoded = [result for result, _, _ in group if isinstance(result, Decoded)]
    return Outcomes(
        paths=[image.name for image in decoded],
        embeddings=embeddings,
        sizes=np.array([image.size for image in decoded], dtype=np.int32).reshape(-1, 2),
        sums=[found for result, found, _ in group if isinstance(result, Decoded)],
        unreadable=[result for result, _, _ in group if isinstance(result, Unreadable)],
        newest=max(newest for _, _, newest in group),
        remarks=Counter(remark for image in decoded for remark in image.remarks),
    )


def _provenance(
    encoder: BatchEncoder, space: str, decoding: str, reading: Reading, root: str
) -> Provenance:
    decoded = {} if decoding == "exact" else {"decoding": decoding}
    return Provenance(
        model=encoder.name,
        weights_sha256=encoder.weights_sha256,
        space=space,
        preprocessing=encoder.preprocessing.to_config() | decoded | reading.to_config(),
        precision=encoder.precision,
        root=root,
        package_version=pauc_hub.__version__,
    )
