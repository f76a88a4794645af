"""The projection head: backbone features (N, width) to the space where losses and prototypes live
(method.md §5).
"""

from torch import Tensor, nn
from torch.nn import functional as F


class Projector(nn.Module):
    """Two linear layers with a ReLU between, then unit length.

    Shapes: (N, width) to (N, dim), rows of unit norm, float32.
    """

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width)
        self.output = nn.Linear(width, dim)

    def forward(self, features: Tensor) -> Tensor:
        return F.normalize(self.output(F.relu(self.hidden(features))).float(), dim=1)
