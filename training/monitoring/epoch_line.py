"""One line an epoch, for people."""

import sys

from pauc_hub.training.state import Training

# terms and accuracy, in this order, where there are any
TOLD = ("loss", "infonce", "proto", "align", "unif", "corr", "scatter", "knn")


def report_epoch(state: Training, line: dict[str, float]) -> None:
    """Print what an epoch came to.

    Args:
        line: of metrics.jsonl.
    """
    if state.quiet:
        return
    terms = ", ".join(f"{name} {line[name]:.3f}" for name in TOLD if name in line)
    spread = (
        f", intra_share {line['intra_share']:.3f}, rank {line['effective_rank']:.1f}"
        if "intra_share" in line
        else ""
    )
    sys.stderr.write(
        f"epoch {state.epoch}/{state.config.epochs}: {terms}{spread}; "
        f"{line['images_per_second']:.0f} images/s, E-step {line['estep_share']:.0%}\n"
    )
