"""What `pauc embed` prints when it is done."""

from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # they take seconds to import
    from pauc_hub.embedding.embed_files import Summary
    from pauc_hub.inference.model import Model


def sentence(summary: "Summary", model: "Model", *, updated: bool) -> str:
    made = f"{summary.images} embedding{'s' * (summary.images != 1)} of {summary.width} numbers by {model.name}"
    if summary.done_before:
        more = "nothing is new or changed" if updated else "--update embeds what changed since, --overwrite everything"
        return f"{summary.output}: complete already, {made}; {more}"
    rate = (summary.images + summary.unreadable - summary.resumed) / summary.seconds
    before = f"; {summary.resumed} were done before" if summary.resumed else ""
    return f"{summary.output}: {made} in {summary.seconds:.1f} s ({rate:.1f} images/s{before})"


def as_object(summary: "Summary", model: "Model", space: str) -> dict[str, object]:
    files = {"output": str(summary.output), "errors": str(summary.errors) if summary.errors else None}
    how = {"model": model.name, "space": space, "precision": model.precision, "device": str(model.device)}
    return {**asdict(summary), **files, **how, "seconds": round(summary.seconds, 3)}
