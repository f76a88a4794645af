"""Image backbones trained without labels by prototypical contrastive learning, and embeddings from
them.

    >>> import pauc_hub, timm
    >>> backbone = timm.create_model("pauc_resnet18", pretrained=True)
    >>> model = pauc_hub.load("pauc_resnet18")
    >>> embeddings = model.embed(["cat.jpg", "dog.jpg"])  # (2, 512) float32

Importing this imports neither torch nor timm; they come with the first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pauc_hub.errors import (
    ArtefactError,
    ClusteringFailed,
    HubError,
    Interrupted,
    MissingWeights,
    ModelFolderError,
    NoImages,
    Note,
    OriginMismatch,
    OutputExists,
    PaucError,
    TableError,
    TooFewDistinct,
    TrainingFailed,
    UnfinishedRun,
    UnknownModel,
    UsageError,
)
from pauc_hub.models.registration import register_when_timm_is_imported

if TYPE_CHECKING:
    from pauc_hub.answers.assign import assign
    from pauc_hub.answers.cluster import cluster
    from pauc_hub.answers.compare import compare
    from pauc_hub.answers.dedupe import dedupe
    from pauc_hub.answers.evaluate import evaluate
    from pauc_hub.answers.predict import predict
    from pauc_hub.answers.probe import probe
    from pauc_hub.answers.verify import verify
    from pauc_hub.embedding.embed import embed
    from pauc_hub.embedding.embedder import Embedder
    from pauc_hub.exporting.export import export
    from pauc_hub.hub.info import info
    from pauc_hub.hub.pull import pull
    from pauc_hub.hub.push import push
    from pauc_hub.inference.model import Model, load
    from pauc_hub.retrieval.search import search
    from pauc_hub.tables.stored import read_table
    from pauc_hub.training.config import Config as TrainConfig
    from pauc_hub.training.loop import train

    __version__: str

__all__ = [
    "ArtefactError",
    "ClusteringFailed",
    "Embedder",
    "HubError",
    "Interrupted",
    "MissingWeights",
    "Model",
    "ModelFolderError",
    "NoImages",
    "Note",
    "OriginMismatch",
    "OutputExists",
    "PaucError",
    "TableError",
    "TooFewDistinct",
    "TrainConfig",
    "TrainingFailed",
    "UnfinishedRun",
    "UnknownModel",
    "UsageError",
    "__version__",
    "assign",
    "cluster",
    "compare",
    "dedupe",
    "embed",
    "evaluate",
    "export",
    "info",
    "load",
    "predict",
    "probe",
    "pull",
    "push",
    "read_table",
    "search",
    "train",
    "verify",
]

# Module and name there; all take time to import.
_LAZY = {
    "dedupe": ("pauc_hub.answers.dedupe", "dedupe"),
    "Embedder": ("pauc_hub.embedding.embedder", "Embedder"),
    "Model": ("pauc_hub.inference.model", "Model"),
    "TrainConfig": ("pauc_hub.training.config", "Config"),
    "assign": ("pauc_hub.answers.assign", "assign"),
    "cluster": ("pauc_hub.answers.cluster", "cluster"),
    "compare": ("pauc_hub.answers.compare", "compare"),
    "embed": ("pauc_hub.embedding.embed", "embed"),
    "evaluate": ("pauc_hub.answers.evaluate", "evaluate"),
    "export": ("pauc_hub.exporting.export", "export"),
    "info": ("pauc_hub.hub.info", "info"),
    "load": ("pauc_hub.inference.model", "load"),
    "predict": ("pauc_hub.answers.predict", "predict"),
    "probe": ("pauc_hub.answers.probe", "probe"),
    "pull": ("pauc_hub.hub.pull", "pull"),
    "push": ("pauc_hub.hub.push", "push"),
    "read_table": ("pauc_hub.tables.stored", "read_table"),
    "search": ("pauc_hub.retrieval.search", "search"),
    "train": ("pauc_hub.training.loop", "train"),
    "verify": ("pauc_hub.answers.verify", "verify"),
}

register_when_timm_is_imported()


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("pauc-hub")
    if name in _LAZY:
        module, attribute = _LAZY[name]
        return getattr(import_module(module), attribute)
    raise AttributeError(f"module 'pauc_hub' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
