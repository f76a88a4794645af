"""Files of the Hugging Face Hub, by way of its own cache; whatever goes wrong is one line.

HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE mean what huggingface_hub says they do.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import torch
from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils.tqdm import are_progress_bars_disabled

from pauc_hub.errors import HubError, PaucError
from pauc_hub.files.checksums import file_sum, git_sum
from pauc_hub.models.catalog import Repository
from pauc_hub.models.hub_patience import patient
from pauc_hub.progress import DownloadBar, SilentDownloadBar

COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
LOGIN = "log in with `hf auth login` or set HF_TOKEN"


def fetch_file(
    repository: Repository,
    names: Sequence[str],
    *,
    quiet: bool = False,
    missing: str = "Is it a model that timm or pauc-hub saved?",
) -> Path:
    """The first of `names` that the repository has; from the cache where the Hub cannot be asked.

    Args:
        quiet: no progress bar.
        missing: what to say where the repository has none of them.

    Returns:
        Its place in the cache: a folder named by the commit, with a link to the file.

    Raises:
        HubError: no network, no access, no such repository, revision or file, or a download that
            broke off.
    """
    with explaining(repository):
        cached = _cached(repository, names)
        if cached and COMMIT.fullmatch(repository.revision or ""):
            return cached
        for name in names:
            try:
                # One question, which fails at once without a network; hf_hub_download() repeats its
                # own for 23 seconds.
                get_hf_file_metadata(hf_hub_url(repository.id, name, revision=repository.revision))
            except RemoteEntryNotFoundError:
                continue
            except RevisionNotFoundError:
                raise
            except (httpx2.HTTPError, OSError):
                if cached:
                    return cached
                raise
            return _download(repository, name, quiet)
    raise HubError(f"'{repository.id}' has no {' or '.join(names)}. {missing}")


def fetch_url(url: str, *, quiet: bool = False) -> Path:
    """A file of weights that lies somewhere else, by way of torch's cache.

    Raises:
        HubError: it cannot be fetched.
    """
    name = Path(urlsplit(url).path).name
    place = Path(torch.hub.get_dir()) / "checkpoints" / name
    if place.exists():
        return place
    if constants.is_offline_mode():
        raise HubError(
            f"'{name}' is not in '{place.parent}', and HF_HUB_OFFLINE forbids fetching it. "
            "Unset it once."
        )
    hashed = re.search(r"-([a-f0-9]{8,})\.", name)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            url, str(place), hashed[1] if hashed else None, progress=not quiet
        )
    except (OSError, RuntimeError) as error:
        raise HubError(
            f"'{url}' cannot be fetched ({_reason(error)}). Check the network, and try again."
        ) from error
    return place


def check_blob(file: Path) -> str:
    """The sha256 of a file in the cache, compared with the one that the Hub gave, where it gave
    one.

    Raises:
        HubError: they differ; the file was removed, so that it is fetched again next time.
    """
    found = file_sum(file)
    blob = file.resolve()
    # Large files are named by their sha256, others by git's own sum.
    large, small = SHA256.fullmatch(blob.name), COMMIT.fullmatch(blob.name)
    if (large and blob.name != found) or (small and blob.name != git_sum(blob)):
        blob.unlink(missing_ok=True)
        file.unlink(missing_ok=True)
        raise HubError(
            f"'{file}' was damaged, and has been removed. The same command fetches it again."
        )
    return found


def check_sum(file: Path, expected: str, owner: str, source: str) -> None:
    """Compare a file in the cache with a sum that somebody else than the Hub vouches for.

    Args:
        expected: sha256 in hexadecimal digits.
        owner: whose file it is, for the message.
        source: what names the sum, for the message.

    Raises:
        HubError: they differ; the file was removed.
    """
    if (found := file_sum(file)) == expected:
        return
    file.resolve().unlink(missing_ok=True)
    file.unlink(missing_ok=True)
    raise HubError(
        f"{owner} has a '{file.name}' whose sha256 is {found[:12]}…, but {source} says "
        f"{expected[:12]}…. "
        "It was removed from the cache; try again, or ask who pushed it."
    )


def _cached(repository: Repository, names: Sequence[str]) -> Path | None:
    for name in names:
        found = try_to_load_from_cache(repository.id, name, revision=repository.revision)
        if isinstance(found, str):
            return Path(found)
    return None


def _download(repository: Repository, name: str, quiet: bool) -> Path:
    bar = SilentDownloadBar if quiet or are_progress_bars_disabled() else DownloadBar
    return Path(hf_hub_download(repository.id, name, revision=repository.revision, tqdm_class=bar))


@contextmanager
def explaining(repository: Repository) -> Iterator[None]:
    """Turn the many exceptions of huggingface_hub into one, and wait for no answer for ever.

    Raises:
        HubError: in place of whatever huggingface_hub raised.
    """
    try:
        with patient():
            yield
    except PaucError:
        raise
    except (httpx2.HTTPError, OSError, RuntimeError, ValueError) as error:
        raise HubError(_explain(error, repository)) from error


def _explain(error: Exception, repository: Repository) -> str:
    name, hub, cache = repository.id, constants.ENDPOINT, constants.HF_HUB_CACHE
    match error:
        case GatedRepoError():
            return f"'{name}' is gated. Ask for access on {hub}/{name}, then {LOGIN}."
        case RepositoryNotFoundError():
            return (
                f"there is no model '{name}' on {hub}, or it is private. Check the name; if it "
                f"is private, {LOGIN}."
            )
        case RevisionNotFoundError():
            return (
                f"'{name}' has no revision '{repository.revision}'. Leave it out for the main "
                "branch."
            )
        case HfHubHTTPError():
            return _explain_status(error, name)
        case OfflineModeIsEnabled():
            return (
                f"'{name}' is not in the cache '{cache}', and HF_HUB_OFFLINE forbids fetching "
                "it. Unset it once."
            )
        case httpx2.ConnectError() | httpx2.TimeoutException():
            return (
                f"{hub} cannot be reached ({_reason(error)}), and '{name}' is not in the cache "
                f"'{cache}'. "
                "Check the network, or give a model folder."
            )
        case OSError(strerror=str(reason)) if reason:
            return (
                f"'{name}' cannot be stored in the cache '{cache}' ({reason}). Set HF_HOME to "
                "another place."
            )
        case ValueError():
            return (
                f"'{name}' is no name of a repository ({_reason(error)}). Write hf-hub:owner/name."
            )
    return f"the download of '{name}' broke off ({_reason(error)}). Try again."


def _explain_status(error: HfHubHTTPError, name: str) -> str:
    hub, status = constants.ENDPOINT, error.response.status_code
    if status == 401:
        return (
            f"{hub} refused the token for '{name}'. Log in again with `hf auth login`, or set "
            "HF_TOKEN anew."
        )
    if status == 429:
        wait = error.response.headers.get("Retry-After", "")
        when = f"in {wait} seconds" if wait.isdigit() else "in a few minutes"
        return f"{hub} was asked too often (429). Try again {when}."
    return f"{hub} answered {status} when asked for '{name}'. Try again later."


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:160].rstrip(".") or type(error).__name__
