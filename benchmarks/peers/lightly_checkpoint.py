"""A checkpoint of torchvision's ResNet-50 before training, as `lightly-train embed` wants one.

python lightly_checkpoint.py OUTPUT.ckpt
"""

import sys
from pathlib import Path

from lightly_train._checkpoint import (  # type: ignore[import-not-found]  # lives in the peers' environment alone
    Checkpoint,
    CheckpointLightlyTrain,
    CheckpointLightlyTrainModels,
)
from lightly_train._models.embedding_model import EmbeddingModel  # type: ignore[import-not-found]
from lightly_train._models.package_helpers import get_wrapped_model  # type: ignore[import-not-found]
from lightly_train._transforms.transform import NormalizeArgs  # type: ignore[import-not-found]

if __name__ == "__main__":
    wrapped = get_wrapped_model("torchvision/resnet50", num_input_channels=3, load_weights=False)
    models = CheckpointLightlyTrainModels(wrapped.get_model(), wrapped, EmbeddingModel(wrapped))
    about = CheckpointLightlyTrain.from_now(models, NormalizeArgs())
    Checkpoint({}, about).save(Path(sys.argv[1]))
