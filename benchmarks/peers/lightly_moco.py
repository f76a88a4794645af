"""lightly's CIFAR-10 benchmark of MoCo, from its published settings and lightly's own parts: how
fast is an epoch?

    python lightly_moco.py FOLDER --epochs 2 --workers 2 --device cpu

As published: lightly's ResNet-18 for small images with batch norm split 8 ways, its MoCo head, a
memory bank of 8192 keys for batches of 512, its SimCLR views without blur, a symmetric loss, SGD
under pytorch-lightning in float32. Left out, to lightly's advantage: kNN after each epoch,
checkpoints, the progress bar. Prints JSON: of each epoch its seconds, its images, and the share of
the time spent waiting for batches.
"""

import argparse
import copy
import json
import tempfile
import time
from typing import Any

import pytorch_lightning as lightning  # type: ignore[import-not-found]  # lives in the peers' environment alone
import torch
from lightly.data import LightlyDataset  # type: ignore[import-not-found]
from lightly.loss import NTXentLoss  # type: ignore[import-not-found]
from lightly.models import ResNetGenerator, utils  # type: ignore[import-not-found]
from lightly.models.modules import MoCoProjectionHead  # type: ignore[import-not-found]
from lightly.transforms import SimCLRTransform  # type: ignore[import-not-found]
from pytorch_lightning.loggers import TensorBoardLogger  # type: ignore[import-not-found]
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

SIZE, WIDTH, DIM = 32, 512, 128
PUBLISHED_EPOCHS = 200
PUBLISHED_BATCH = 128  # that the published rate of 0.06 is for; larger batches in proportion


class MoCo(lightning.LightningModule):  # type: ignore[misc]
    def __init__(self, batch_size: int, bank: int) -> None:
        super().__init__()
        self.rate = 0.06 * batch_size / PUBLISHED_BATCH
        trunk = list(ResNetGenerator("resnet-18", num_splits=8).children())[:-1]
        self.backbone = nn.Sequential(*trunk, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.query = nn.Sequential(self.backbone, MoCoProjectionHead(WIDTH, WIDTH, DIM))
        self.key = copy.deepcopy(self.query)
        utils.deactivate_requires_grad(self.key)
        self.criterion = NTXentLoss(temperature=0.1, memory_bank_size=(bank, DIM))

    def one_side(self, shown: Tensor, other: Tensor) -> Tensor:
        shuffled, order = utils.batch_shuffle(other)
        key = utils.batch_unshuffle(self.key(shuffled), order)
        loss: Tensor = self.criterion(self.query(shown), key)
        return loss

    def training_step(self, batch: Any, _: int) -> Tensor:
        (first, second), *_others = batch
        utils.update_momentum(self.query, self.key, 0.99)
        loss = (self.one_side(first, second) + self.one_side(second, first)) / 2
        self.log("train_loss_ssl", loss)
        return loss

    def configure_optimizers(self) -> Any:
        optimiser = torch.optim.SGD(
            self.query.parameters(), lr=self.rate, momentum=0.9, weight_decay=5e-4
        )
        return [optimiser], [
            torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, PUBLISHED_EPOCHS)
        ]


class Clock(lightning.Callback):  # type: ignore[misc]
    """Seconds, images and waiting of each epoch."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.epochs: list[dict[str, float]] = []

    def on_train_epoch_start(self, *_: Any) -> None:
        self.began = self.asked = time.monotonic()
        self.waited, self.batches = 0.0, 0

    def on_train_batch_start(self, *_: Any) -> None:
        self.waited += time.monotonic() - self.asked

    def on_train_batch_end(self, *_: Any) -> None:
        self.asked = time.monotonic()
        self.batches += 1

    def on_train_epoch_end(self, *_: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds = time.monotonic() - self.began
        images = self.batches * self.batch_size
        self.epochs.append(
            {"seconds": seconds, "images": images, "data_wait": self.waited / seconds}
        )


def gflop(backbone: nn.Module) -> float:
    """Of one image through the backbone."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        backbone(torch.zeros(8, 3, SIZE, SIZE))  # 8: split batch norm takes no fewer
    return float(counter.get_total_flops()) / 8e9


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--bank", type=int, default=8192)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    given = parser.parse_args()
    lightning.seed_everything(0)
    views = SimCLRTransform(input_size=SIZE, cj_strength=0.5, gaussian_blur=0.0)
    loader = DataLoader(
        LightlyDataset(given.folder, transform=views),
        batch_size=given.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=given.workers,
    )
    model, clock = MoCo(given.batch_size, given.bank), Clock(given.batch_size)
    an_image = gflop(copy.deepcopy(model.backbone).eval())
    with tempfile.TemporaryDirectory() as logs:
        trainer = lightning.Trainer(
            max_epochs=given.epochs,
            accelerator=given.device,
            devices=1,
            logger=TensorBoardLogger(logs),
            callbacks=[clock],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model, train_dataloaders=loader)
    print(json.dumps({"epochs": clock.epochs, "backbone_gflop": an_image}))


if __name__ == "__main__":
    main()
