"""The path of timm's own inference.py (not in its wheel): its dataset, its loader with prefetching,
its defaults.

    python timm_inference.py FOLDER OUTPUT.npy [--bf16]

Defaults of that script: batches of 256, 2 workers. Given on top: 224 pixels of a short side of 256,
as the others do (timm tests its resnet50 at 288); no classifier. `--bf16` is its `--model-dtype
bfloat16 --channels-last`.
"""

import sys

import numpy as np
import torch
from timm.data.config import resolve_data_config
from timm.data.dataset_factory import create_dataset
from timm.data.loader import create_loader
from timm.models import create_model

if __name__ == "__main__":
    folder, output, *options = sys.argv[1:]
    dtype = torch.bfloat16 if "--bf16" in options else torch.float32
    device = torch.device("cpu")
    model = create_model("resnet50", pretrained=False, num_classes=0)
    config = resolve_data_config({"img_size": 224, "crop_pct": 0.875}, model=model)  # type: ignore[no-untyped-call]
    model = model.to(device=device, dtype=dtype).eval()
    if "--bf16" in options:
        model = model.to(memory_format=torch.channels_last)
    loader = create_loader(
        create_dataset(name="", root=folder),
        batch_size=256,
        use_prefetcher=True,
        num_workers=2,
        device=device,
        img_dtype=dtype,
        **config,
    )
    with torch.inference_mode():
        found = [model(pixels).float().cpu().numpy() for pixels, _ in loader]
    np.save(output, np.concatenate(found))
