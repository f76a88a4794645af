"""The public names, pinned: adding or losing one is a decision."""

from importlib.metadata import version

import pytest

import pauc_hub
from pauc_hub import errors

PUBLIC = [
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


def test_the_public_names_are_these() -> None:
    assert pauc_hub.__all__ == PUBLIC


def test_every_error_is_public() -> None:
    assert {name for name in vars(errors) if name[0].isupper()} <= set(PUBLIC)


@pytest.mark.parametrize("name", pauc_hub.__all__)
def test_every_public_name_is_there_and_shown(name: str) -> None:
    assert hasattr(pauc_hub, name)
    assert name in dir(pauc_hub)


def test_lazy_names_are_those_of_their_modules() -> None:
    from pauc_hub.answers.assign import assign
    from pauc_hub.answers.cluster import cluster
    from pauc_hub.embedding.embed import embed
    from pauc_hub.inference.model import Model, load
    from pauc_hub.retrieval.search import search

    assert pauc_hub.assign is assign
    assert pauc_hub.cluster is cluster
    assert pauc_hub.load is load
    assert pauc_hub.Model is Model
    assert pauc_hub.embed is embed
    assert pauc_hub.search is search


def test_the_version_is_that_of_the_distribution() -> None:
    assert pauc_hub.__version__ == version("pauc-hub")


def test_other_names_are_refused_as_python_does() -> None:
    with pytest.raises(AttributeError, match=r"^module 'pauc_hub' has no attribute 'lode'$"):
        _ = pauc_hub.lode
