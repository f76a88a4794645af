"""Everything that decides a training run: one frozen dataclass, checked whole, all problems
reported at once.
"""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pauc_hub.clustering.kmeans import resolve_backend
from pauc_hub.errors import UsageError
from pauc_hub.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from pauc_hub.training.config_conflicts import (
    wrong_blur,
    wrong_clusters,
    wrong_freeze,
    wrong_groups,
    wrong_network,
    wrong_progressive_sizes,
    wrong_small_views,
)
from pauc_hub.training.config_limits import HIGHEST_ADAMW_LR, out_of_range, words, wrong_choices
from pauc_hub.training.derived import BLUR_AT_224, default_clusters, default_queue, images_kept_out
from pauc_hub.training.networks.backbone import has_batch_norm
from pauc_hub.training.networks.pretrained import default_freeze


@dataclass(frozen=True)
class Config:
    """A training run. `None` stands for "chosen from the number of images" until `resolve`."""

    objective: str = "pauc"
    """infonce, protonce or pauc (method.md §2, §4)."""
    architecture: str = "resnet18"
    """timm's name of the backbone, any that pools; pauc_resnet18_cifar and the like have a stem for
    small images.
    """
    weights_from: str = ""
    """Model whose weights the run starts from, anything that `pauc embed -m` takes; initial ones
    unless given.
    """
    freeze: int | None = None
    """Stages or blocks, from the first, that keep those weights; by default all but the last
    quarter [blocks].
    """
    projector_share: float = 0.1
    """With weights_from: share of the epochs at the start in which the projector alone learns
    [share].
    """
    backbone_rate: float = 0.1
    """With weights_from: learning rate of the last block, as a share of lr; the projector has lr
    itself [share].
    """
    layer_decay: float = 0.75
    """With weights_from: learning rate of a block as a share of that of the next one [share]."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Mean of red, green and blue, which the network's input is normalised by."""
    std: tuple[float, float, float] = IMAGENET_STD
    """Standard deviation of the same."""
    size: int = 224
    """Side of the square views [pixels]."""
    epochs: int = 100
    """Passes over all images."""
    batch_size: int = 256
    """Batch size [images]."""
    accumulate: int = 1
    """Parts in which a batch's gradient is computed, for batches beyond the memory: the same
    result, slower.
    """
    optimiser: str = "sgd"
    """sgd, lars or adamw; lars, for batches of thousands, needs an lr of about 0.3, adamw one of
    about 0.001.
    """
    lr: float = 0.06
    """Peak learning rate for a batch of 256; scaled with the batch, or with its square root for
    adamw.
    """
    lr_warmup: float = 0.02
    """Share of the steps over which the learning rate rises; then it falls along a cosine to 0
    [share].
    """
    weight_decay: float = 5e-4
    """Weight decay; not applied to norms and biases."""
    momentum: float = 0.99
    """Momentum of the key encoder: share of the old weights kept each step."""
    momentum_rises: bool = False
    """Let the momentum rise to 1 along a cosine, as BYOL and MoCo v3 do; in MoCo v2 and PCL it is
    constant.
    """
    queue: int | None = None
    """Past keys that are kept; by default 16384, and at most half of the images [keys]."""
    mask_own_keys: bool = True
    """Leave an image's own past keys out of its negatives (method.md §1)."""
    dim: int = 128
    """Width of the projection space [dimensions]."""
    temperature: float = 0.2
    """Temperature of InfoNCE, and the mean concentration of the prototypes."""
    clusters: tuple[int, ...] | None = None
    """Prototypes of each clustering, rising; by default N/50, N/25 and N/12.5 of N images."""
    negatives: int = 16384
    """Most prototypes that a query is contrasted with; up to this number, all of them
    [prototypes].
    """
    warmup: float = 0.1
    """Share of the epochs with InfoNCE alone, before the first clustering [share]."""
    ramp: float = 0.05
    """Share of the epochs after the warm-up over which PAUC's weights rise [share]."""
    weight_proto: float = 0.0
    """Weight of ProtoNCE within pauc."""
    weight_align: float = 0.3
    """Weight of Align within pauc."""
    weight_unif: float = 0.15
    """Weight of Unif within pauc."""
    weight_corr: float = 0.3
    """Weight of Corr within pauc."""
    weight_scatter: float = 0.0
    """Weight of scattering within pauc, beside or in place of the other terms (method.md §4)."""
    prototypes_from: str = "batch"
    """What PAUC's terms compare: means over batch or batch_and_queue, or bank: image and prototype
    (method.md §4).
    """
    shuffle_assignments: bool = False
    """As a control: shuffle assignments among the images after each E-step, so that clusters mean
    nothing.
    """
    correlation_lambda: float = 1.0
    """Weight of the off-diagonal within Corr."""
    symmetric: bool = False
    """Compute every loss twice, the views' roles exchanged: about 1.5 times the time, and more
    learnt an epoch.
    """
    norm_group: int = 64
    """Images that share batch statistics, 32 or more; a batch holds two such groups or more
    (method.md §5) [images].
    """
    crop_min: float = 0.2
    """Smallest share of the image's area that a view shows [share]."""
    small_views: int = 0
    """Small views of each image besides its two full ones, as queries alone (method.md §1)
    [views].
    """
    small_view_size: int | None = None
    """Side of the small views; by default half of size [pixels]."""
    small_view_crop: tuple[float, float] | None = None
    """Least and largest share of the area that they show; by default 0.05 and 0.2, with size below
    160 0.15 and 0.4.
    """
    progressive_sizes: tuple[int, ...] = ()
    """Sides of the views in the first epochs, rising, before they have their full size (method.md
    §5) [pixels].
    """
    progressive_share: float = 0.5
    """Share of the epochs with progressive_sizes, in equal parts; the last tenth always has the
    full size [share].
    """
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)
    """Strength of the colour jitter: brightness, contrast, saturation, hue."""
    jitter_probability: float = 0.8
    """Share of views with colour jitter [share]."""
    grey: float = 0.2
    """Share of views in greyscale [share]."""
    blur: float = 0.5
    """Share of views that are blurred [share]."""
    blur_sigma: tuple[float, float] | None = None
    """Least and largest standard deviation of the blur; by default 0.1 and 2.0 times size / 224
    [pixels].
    """
    flip: float = 0.5
    """Share of views that are mirrored [share]."""
    kmeans: str = "auto"
    """k-means backend: auto, torch or faiss."""
    kmeans_iterations: int = 20
    """Lloyd iterations of each clustering."""
    kmeans_restarts: int = 1
    """Runs of k-means, of which the best is kept."""
    precision: str = "auto"
    """Compute precision: auto, fp32 or bf16."""
    compile: bool = False
    """Compile the networks with torch.compile, which takes about a minute at the start; on a CPU it
    gained nothing.
    """
    labelled: str = ""
    """Folder with one subfolder for each class, for kNN accuracy while training; it chooses
    nothing.
    """
    kept_out: float = 0.01
    """Share of the images, 2000 at most, that calibrate the prototypes instead of being trained on
    [share].
    """
    seed: int = 0
    """Random seed."""

    @property
    def warmup_epochs(self) -> int:
        """Epochs with InfoNCE alone: at least one, so that the first features are not random
        ones.
        """
        return max(1, round(self.warmup * self.epochs))

    @property
    def projector_epochs(self) -> int:
        """Epochs in which the projector alone learns, before the weights that were given."""
        return (
            min(self.epochs - 1, max(1, round(self.projector_share * self.epochs)))
            if self.weights_from
            else 0
        )

    @property
    def peak_lr(self) -> float:
        """In proportion to the batch (Goyal et al. 2017), for AdamW to its square root (Malladi et
        al. 2022).
        """
        batches = self.batch_size / 256
        return self.lr * (math.sqrt(batches) if self.optimiser == "adamw" else batches)

    @property
    def blur_range(self) -> tuple[float, float]:
        """Least and largest standard deviation of the blur, pixels of the view."""
        if self.blur_sigma is not None:
            return self.blur_sigma
        least, largest = BLUR_AT_224
        return least * self.size / 224, largest * self.size / 224

    @property
    def progressive_epochs(self) -> int:
        """Epochs before the views have their full size."""
        if not self.progressive_sizes:
            return 0
        return min(
            round(self.progressive_share * self.epochs), self.epochs - math.ceil(self.epochs / 10)
        )

    def side_at(self, epoch: int) -> int:
        """Side of the views in epoch `epoch` (from 0), pixels."""
        if epoch >= self.progressive_epochs:
            return self.size
        return self.progressive_sizes[
            epoch * len(self.progressive_sizes) // self.progressive_epochs
        ]

    @property
    def small_view_side(self) -> int:
        """Side of the small views, pixels; where the full ones are of another side, it is as other
        in proportion.
        """
        return self.small_view_size if self.small_view_size is not None else self.size // 2

    @property
    def small_view_shares(self) -> tuple[float, float]:
        """Least and largest share of the image's area that a small view shows; of few pixels it has
        to be more.
        """
        if self.small_view_crop is not None:
            return self.small_view_crop
        return (0.05, 0.2) if self.size >= 160 else (0.15, 0.4)

    @property
    def has_batch_norm(self) -> bool:
        """Whether the images of a batch share statistics in this network; with weights_from its own
        are kept.
        """
        return not self.weights_from and has_batch_norm(self.architecture, self.size)

    @property
    def norm_groups(self) -> int:
        """Groups of a batch that share batch statistics; without batch norm each image is by
        itself.
        """
        return (
            max(1, self.batch_size // self.norm_group) if self.has_batch_norm else self.batch_size
        )

    @property
    def keys_per_step(self) -> int:
        """Keys that enter the queue at once."""
        return self.batch_size * (1 + self.symmetric)

    def resolve(self, images: int) -> "Config":
        """The same with what depends on the number of images filled in, and all of it checked.

        Args:
            images: how many there are, those that are kept out of training among them.

        Raises:
            UsageError: one line with every problem, the value and what is allowed.
        """
        images -= images_kept_out(images, self.kept_out)
        clusters = self.clusters if self.clusters is not None else default_clusters(images)
        queue = self.queue if self.queue is not None else default_queue(images, self.keys_per_step)
        # a run may go on from elsewhere
        labelled = str(Path(self.labelled).absolute()) if self.labelled else ""
        freeze = self.freeze
        if self.weights_from and freeze is None and not self._wrong_network():
            freeze = default_freeze(self.architecture, self.size)
        resolved = dataclasses.replace(
            self, clusters=clusters, queue=queue, labelled=labelled, freeze=freeze
        )
        refuse(resolved.problems(images))
        return resolved

    def problems(self, images: int) -> list[str]:
        """Every reason not to train on so many images, in plain words."""
        return [*self._wrong_values(), *self._wrong_for(images)]

    def _wrong_values(self) -> list[str]:
        values = dataclasses.asdict(self)
        found = wrong_choices(values)
        if self.kmeans == "faiss" and resolve_backend("auto") != "faiss":
            found.append(
                "kmeans='faiss' is not installed: `pip install 'pauc-hub[faiss-cpu]'`, or "
                "leave it at auto"
            )
        if self.prototypes_from == "bank" and self.weight_scatter > 0:
            found.append(
                "weight_scatter needs prototypes of the batch: give weight_scatter=0 or "
                "prototypes_from='batch'"
            )
        if self.optimiser == "adamw" and self.lr > HIGHEST_ADAMW_LR:
            found.append(
                f"lr={self.lr:g} is too high for adamw: give {HIGHEST_ADAMW_LR:g} or less, "
                "about 0.001"
            )
        found += out_of_range(values)
        found += wrong_blur(self.blur_sigma, self.size)
        found += wrong_progressive_sizes(self.progressive_sizes, self.size)
        crop = self.small_view_crop
        if crop is not None and not 0 < crop[0] <= crop[1] <= 1:
            found.append(
                f"small_view_crop={words(crop)} must be the least and the largest, in (0, 1]"
            )
        least = min((self.size, *self.progressive_sizes))
        return found + wrong_small_views(
            self.small_views, self.small_view_side, self.size, least, self.architecture
        )

    def _wrong_for(self, images: int) -> list[str]:
        found = self._wrong_network()
        if not found and self.weights_from and self.freeze is not None:
            found = wrong_freeze(self.freeze, self.architecture, self.size)
        if self.batch_size > images:
            found.append(f"batch_size={self.batch_size} needs as many images; there are {images}")
        batch_norm = self.has_batch_norm
        if batch_norm:
            found += wrong_groups(self.batch_size, self.norm_group, images)
        if self.norm_group >= 1 and not 1 <= self.accumulate <= self.norm_groups:
            groups = "the batch-norm groups of a batch (batch_size / norm_group)"
            most = groups if batch_norm else "batch_size"
            found.append(f"accumulate={self.accumulate} must be 1 to {self.norm_groups}, {most}")
        if self.queue is not None and self.queue < self.keys_per_step:
            found.append(
                f"queue={self.queue} must hold the {self.keys_per_step} keys of a step at least"
            )
        return found + wrong_clusters(self.clusters or (), images)

    def _wrong_network(self) -> list[str]:
        return wrong_network(self.architecture, self.size, self.small_views, self.progressive_sizes)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def refuse(problems: list[str]) -> None:
    """Raise all problems as one line, if there are any."""
    if problems:
        raise UsageError(f"the configuration cannot be trained: {'; '.join(problems)}.")
