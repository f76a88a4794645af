"""Models on the Hugging Face Hub that pauc-hub wrote."""

from huggingface_hub import HfApi, constants, get_session

from pauc_hub.errors import HubError
from pauc_hub.models.catalog import Repository
from pauc_hub.models.download import explaining
from pauc_hub.models.entry import HUB, ModelEntry

TAG = "pauc-hub"
MOST = 100


def list_hub(query: str | None = None) -> list[ModelEntry]:
    """Those tagged `pauc-hub`, the most downloaded first, at most MOST.

    Args:
        query: a word that their names hold.

    Raises:
        HubError: the Hub cannot be asked, or has none.
    """
    with explaining(Repository("the list of models")):
        # One question, which fails at once without a network; list_models() repeats its own for 23
        # seconds.
        get_session().head(constants.ENDPOINT)
        found = list(HfApi().list_models(filter=TAG, search=query, sort="downloads", limit=MOST))
    if not found:
        named = f" whose name holds '{query}'" if query else ""
        raise HubError(f"{constants.ENDPOINT} has no model tagged {TAG}{named}.")
    return [
        ModelEntry(f"{HUB}{model.id}", True, f"{model.downloads or 0:,} downloads")
        for model in found
    ]
