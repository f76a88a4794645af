"""What can go wrong, drawn as a tree. Every message is one line: what is wrong, the offending
value, the way out.
"""


class PaucError(RuntimeError):
    """Base of all errors meant for users; a RuntimeError, as timm's own refusals are."""


class UsageError(PaucError):
    """The call itself is wrong, and nothing was started; exit code 2."""


class UnknownModel(PaucError):
    """No model answers to that name or folder."""


class MissingWeights(PaucError):
    """The architecture exists, but there are no weights for it."""


class ModelFolderError(PaucError):
    """A model folder is incomplete, damaged, or of another format."""


class HubError(PaucError):
    """The Hugging Face Hub cannot be reached, or refuses; or a download broke off."""


class TableError(PaucError):
    """An embedding table is damaged, or of another format."""


class ArtefactError(PaucError):
    """A prototypes, probe or scores file is damaged, of another kind, or of another format."""


class OriginMismatch(PaucError):
    """Embeddings of two origins (weights, space, preprocessing) were about to be mixed."""


class NoImages(PaucError):
    """Nothing to work on."""


class OutputExists(PaucError):
    """Something stands where the result would go."""


class UnfinishedRun(PaucError):
    """A stopped run stands where this one would begin, and was about something else."""


class ClusteringFailed(PaucError):
    """Points cannot be clustered as asked."""


class TooFewDistinct(ClusteringFailed):
    """No cluster holds two different points: there are no more distinct points than clusters."""

    def __init__(self, distinct: int, points: int, clusters: int) -> None:
        super().__init__(
            f"{points} points hold {distinct} distinct ones: too few for {clusters} clusters."
        )
        self.distinct = distinct
        self.clusters = clusters


class TrainingFailed(PaucError):
    """Training cannot go on: collapsed, diverged, or out of disk."""


class Interrupted(PaucError):
    """Stopped on request, with all that was done saved; exit code 130."""


class Note(UserWarning):
    """Worth knowing, though nothing is wrong; the command line prints it in a line of its own."""
