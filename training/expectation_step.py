"""The E-step of a run in progress: features of its images, prototypes from these, and what is worth
watching about them.
"""

import time

from torch import Tensor

from pauc_hub.progress import progress_bar
from pauc_hub.training.data import Loader
from pauc_hub.training.estep import all_features, expect, shuffled
from pauc_hub.training.monitoring.diagnostics import diagnose
from pauc_hub.training.networks.encoder import Encoder
from pauc_hub.training.run import run_folder
from pauc_hub.training.state import Training

AllFeatures = tuple[Tensor, Tensor]
"""As all_features() gives them."""


def expectation_step(
    state: Training, encoder: Encoder, side: int
) -> tuple[dict[str, float], AllFeatures]:
    """Prototypes from all images, as `encoder` sees them at that side.

    Returns:
        What is worth watching about them, and the features, as `all_features` gives them.
    """
    began = time.monotonic()
    before = state.expectation
    features, readable = encode_images(
        state, encoder, state.loader.at(side), f"epoch {state.epoch + 1}: E-step"
    )
    found = expect(features, readable, state.config, state.epoch, state.world, state.heed_signals)
    shuffle = state.config.shuffle_assignments
    state.expectation = shuffled(found, state.config.seed, state.epoch) if shuffle else found
    state.source.unreadable |= state.world.merge(state.source.unreadable)
    if state.world.first:
        run_folder.list_unreadable(state.run, state.source.unreadable, state.source.names)
    watched = diagnose(features, readable, found, before, state.config, state.world)
    return watched | {"estep_seconds": time.monotonic() - began}, (features, readable)


def encode_images(state: Training, encoder: Encoder, loader: Loader, told: str) -> AllFeatures:
    """Features of all images of a loader, under a bar that says `told`; a stop is heeded."""
    with progress_bar(len(loader.source), told, quiet=state.quiet) as bar:

        def seen(count: int) -> None:
            # the other processes are as far
            bar.advance(count * state.world.size)
            state.heed_signals()

        # without gradients there is room for more
        batch_size = 2 * state.config.batch_size
        return all_features(
            encoder, loader, state.device, state.dtype, batch_size, seen, state.world
        )
