"""What a training step costs at least: its network, forward and backward, over batches that lie on
the device.
"""

from functools import partial

import torch
from measuring import seconds_of
from torch.utils.flop_counter import FlopCounterMode

from pauc_hub.device import autocast, choose_precision
from pauc_hub.training.networks.encoder import Encoder

DIM, SIZE = 128, 32
TIMES = {"cpu": 2, "cuda": 20}


def network_alone(
    architecture: str, batch_size: int, device: torch.device, precision: str = "auto"
) -> dict[str, float]:
    """Two views with gradient and two without, as a symmetric step has them: no images, loss,
    optimiser or queue.

    Beside it the forward pass of one view, as an E-step has it.
    """
    dtype = choose_precision(precision, device)
    torch.manual_seed(0)
    encoder = Encoder(architecture, DIM).to(device).to(memory_format=torch.channels_last)
    views = torch.randn(batch_size, 3, SIZE, SIZE, device=device).to(
        memory_format=torch.channels_last
    )

    def passes(times: int) -> None:
        for _ in range(times):
            encoder.zero_grad()
            for _side in range(2):
                with autocast(device, dtype):
                    projected = encoder(views)
                torch.autograd.backward(projected.float().square().mean())
                with torch.no_grad(), autocast(device, dtype):
                    encoder(views)

    @torch.no_grad()
    def forward(times: int) -> None:
        for _ in range(times):
            with autocast(device, dtype):
                encoder(views)

    with FlopCounterMode(display=False) as counter:  # and the first pass, which chooses kernels
        passes(1)
    gflop = counter.get_total_flops() / 1e9 / batch_size
    images = batch_size * TIMES[device.type]
    rate = images / seconds_of(partial(passes, TIMES[device.type]))
    encoder.eval()
    forward(1)
    embedding = images / seconds_of(partial(forward, TIMES[device.type]))
    return {
        "images_per_second": rate,
        "gflop_an_image": gflop,
        "gflops": gflop * rate,
        "forward_images_per_second": embedding,
    }


def backbone_gflop(architecture: str) -> float:
    """Of one image, forward: the same for two backbones that are the same."""
    backbone = Encoder(architecture, DIM).backbone.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        backbone(torch.zeros(1, 3, SIZE, SIZE))
    return float(counter.get_total_flops()) / 1e9
