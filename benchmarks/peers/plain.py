"""The script that one writes in ten minutes: torchvision's ResNet-50, its transforms, a DataLoader,
a loop.

python plain.py FOLDER OUTPUT.npy
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import models, transforms


class Photos(Dataset[torch.Tensor]):
    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.iterdir())
        steps = [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()]
        normalise = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        self.transform = transforms.Compose([*steps, normalise])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        pixels: torch.Tensor = self.transform(Image.open(self.paths[index]).convert("RGB"))
        return pixels


if __name__ == "__main__":
    network = models.resnet50()
    network.fc = torch.nn.Identity()
    network.eval()
    loader = DataLoader(Photos(Path(sys.argv[1])), batch_size=64, num_workers=os.cpu_count() or 1)
    with torch.inference_mode():
        np.save(sys.argv[2], torch.cat([network(batch) for batch in loader]).numpy())
