"""Images that are kept out of training, to calibrate prototypes on. N images."""

import torch

from pauc_hub.sources.by_index import ImageSource
from pauc_hub.training.config import Config
from pauc_hub.training.derived import images_kept_out
from pauc_hub.training.rng import Purpose, torch_draws


def keep_out(images: ImageSource, config: Config) -> tuple[ImageSource, ImageSource]:
    """The images to train on, in their own order, and those that are kept out, in no order.

    The same images, share and seed always give the same split.

    Returns:
        The second is empty where the share is too small to mean anything.
    """
    count = images_kept_out(len(images), config.kept_out)
    if count == 0:
        return images, images.subset([])
    order = torch.randperm(len(images), generator=torch_draws(config.seed, Purpose.KEPT_OUT))[
        :count
    ].tolist()
    kept = {*order}
    return images.subset(
        [index for index in range(len(images)) if index not in kept]
    ), images.subset(order)
