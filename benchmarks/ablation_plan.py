"""The rows of the ablation (method.md §4): what each changes of the common settings, and how many
seeds it has.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pauc_hub.training.config import Config
from pauc_hub.training.settings import from_mapping

COMMON: dict[str, Any] = {"architecture": "resnet18", "size": 32, "epochs": 50, "small_views": 0}
HEADLINE_SEEDS = 3

NO_TERM = {f"weight_{term}": 0.0 for term in ("proto", "align", "unif", "corr", "scatter")}
TERMS = {"weight_align": 0.3, "weight_unif": 0.15, "weight_corr": 0.3}
# Written out, so that the rows stay the same when the defaults change.
PAUC: dict[str, Any] = {"objective": "pauc"} | NO_TERM | TERMS | {"prototypes_from": "batch"}
SMALL = 0.1
FEW_CLUSTERS = [10, 25, 50]


class Row(NamedTuple):
    """A method: its name, what it is in words, its settings beside the common ones, and whether it
    is a headline.
    """

    name: str
    about: str
    settings: Mapping[str, Any]
    headline: bool = False


class Run(NamedTuple):
    """One training of a row."""

    row: Row
    seed: int

    @property
    def key(self) -> str:
        return f"{self.row.name}-seed{self.seed}"


ROWS = (
    # With all weights at 0 the gradient is InfoNCE's alone, and the E-steps only watch.
    Row(
        "infonce",
        "InfoNCE alone; E-steps only watch",
        {"objective": "pauc"} | NO_TERM,
        headline=True,
    ),
    Row("protonce", "InfoNCE and ProtoNCE, w_p = 1", {"objective": "protonce"}, headline=True),
    Row("pauc", "three terms, w_p = 0; reading A, means over the batch", PAUC, headline=True),
    Row("pauc_literal", "three terms beside ProtoNCE, w_p = 1", PAUC | {"weight_proto": 1.0}),
    Row(
        "protonce_small",
        f"ProtoNCE, w_p = {SMALL}",
        {"objective": "pauc"} | NO_TERM | {"weight_proto": SMALL},
    ),
    Row(
        "pauc_batch_and_queue",
        "reading A, means over batch and queue",
        PAUC | {"prototypes_from": "batch_and_queue"},
    ),
    Row("pauc_bank", "reading B, image and bank prototype", PAUC | {"prototypes_from": "bank"}),
    Row("pauc_no_align", "pauc without Align", PAUC | {"weight_align": 0.0}),
    Row("pauc_no_unif", "pauc without Unif", PAUC | {"weight_unif": 0.0}),
    Row("pauc_no_corr", "pauc without Corr", PAUC | {"weight_corr": 0.0}),
    Row(
        "scatter",
        "scattering in place of the terms",
        {"objective": "pauc"} | NO_TERM | {"weight_scatter": 1.0},
    ),
    Row("control_shuffled", "control: assignments shuffled", PAUC | {"shuffle_assignments": True}),
    Row(
        "control_few_clusters",
        f"control: {FEW_CLUSTERS} clusters",
        PAUC | {"clusters": FEW_CLUSTERS},
    ),
)


def runs(names: Sequence[str] = (), headline_seeds: int = HEADLINE_SEEDS) -> list[Run]:
    """All trainings of the rows named, or of all: headlines with all their seeds first, for they
    matter most.
    """
    chosen = [row for row in ROWS if not names or row.name in names]
    headlines = [row for row in chosen if row.headline]
    more = [Run(row, seed) for seed in range(1, headline_seeds) for row in headlines]
    first = [Run(row, 0) for row in chosen]
    return [*first[: len(headlines)], *more, *first[len(headlines) :]]


def config_of(run: Run, images: int, given: Mapping[str, Any]) -> Config:
    """Its settings: the common ones, those given for all rows, and the row's own, checked for so
    many images.

    Raises:
        UsageError: a problem with them.
    """
    settings = COMMON | dict(given) | dict(run.row.settings) | {"seed": run.seed}
    return from_mapping(settings, f"row {run.row.name}").resolve(images)
