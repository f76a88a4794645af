"""The function behind `pauc push`: a model folder to the Hugging Face Hub, in one commit or not at
all.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    ModelInfo,
    constants,
    get_token,
)
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils.tqdm import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)

from pauc_hub.errors import HubError, ModelFolderError, PaucError, UsageError
from pauc_hub.files.checksums import SUMS, file_sum, git_sum, read_bytes, sums_of
from pauc_hub.hub.eval_results import PREFIX, eval_results
from pauc_hub.models import hub_patience
from pauc_hub.models.catalog import Repository, locate, parse_repository
from pauc_hub.models.download import LOGIN, explaining
from pauc_hub.models.folder import (
    CARD,
    CURVES,
    FACTS,
    PROJECTOR,
    PROTOTYPES,
    WEIGHT_FILES,
    ModelFolder,
    open_folder,
)

# Left over from an earlier model, these would be taken for parts of the new one.
GALLERY = "gallery.jpg"
SHOWN = f"""
## What its prototypes find

Each row has the images that are most like one of its largest prototypes.

![Images by prototype]({GALLERY})
"""
PARTS = frozenset({GALLERY, *WEIGHT_FILES, PROJECTOR, PROTOTYPES, FACTS, CARD, CURVES})
REFUSED, MOVED = (401, 403), (409, 412)


@dataclass(frozen=True)
class Pushed:
    """What push() did, or would do."""

    repository: str
    url: str
    """Of the commit, or of the pull request; of the repository where nothing was pushed."""
    commit: str
    """Its sha; empty after a dry run."""
    files: dict[str, int]
    """Name to size in bytes, of all files of the model, and of those made of its scores for
    benchmarks.
    """
    changed: tuple[str, ...]
    """Files that the commit changed; none where the Hub had all of them."""
    card: str
    """README.md, as the Hub shows it."""


def push(
    model: str | Path,
    repository: str,
    *,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    message: str | None = None,
    gallery: bytes | None = None,
    dry_run: bool = False,
    quiet: bool = False,
) -> Pushed:
    """Put a model on the Hugging Face Hub.

        >>> push("pauc_resnet18", "you/birds", dry_run=True).url
        'https://huggingface.co/you/birds'

    The repository is made if need be. What is there already is not sent again; a push that changes
    nothing makes no commit. If somebody else commits in the meantime, nothing is overwritten.

    Args:
        model: a model folder, a run, or the name of a bundled model.
        repository: `owner/name`.
        private: make a new repository private.
        revision: the branch, which is made if need be; the main branch unless given.
        create_pr: open a pull request instead of committing to the branch.
        message: of the commit.
        gallery: a JPEG that the card shows, such as answers.gallery makes of images that may be
            shown.
        dry_run: check everything here and ask the Hub nothing.
        quiet: no progress bars.

    Raises:
        UsageError: `model` is not a folder here, or `repository` is no name.
        UnknownModel, MissingWeights, ModelFolderError: there is no such model, or it is damaged.
        HubError: no token, no right to write, no network, or a branch that moved.
    """
    target = _target(repository, revision)
    folder = _folder(model)
    files: dict[str, Path | bytes] = {
        name: folder.path / name for name in (*sorted(folder.sums), SUMS)
    }
    files |= eval_results(folder.facts)
    if gallery:
        files |= _with_gallery(folder, gallery)
    sizes = {
        name: len(file) if isinstance(file, bytes) else file.stat().st_size
        for name, file in files.items()
    }
    card = _read(files[CARD]).decode(errors="replace") if CARD in files else ""
    url = f"{constants.ENDPOINT}/{target.id}"
    if dry_run:
        return Pushed(target.id, url, "", sizes, tuple(sizes), card)
    if get_token() is None:
        raise HubError(f"pushing to '{target.id}' needs a token with the right to write: {LOGIN}.")
    api = HfApi()
    with explaining(target), _explaining_refusals(target), _bars_hidden(quiet):
        there = _standing(api, target, private)
        stored = {sibling.rfilename: _stored_sum(sibling) for sibling in there.siblings or ()}
        changed = [name for name, file in files.items() if stored.get(name) not in _sums(file)]
        stale = sorted(
            name
            for name in stored.keys() - files.keys()
            if name in PARTS or name.startswith(PREFIX)
        )
        if not changed and not stale:
            return Pushed(target.id, url, str(there.sha), sizes, (), card)
        done = api.create_commit(
            target.id,
            [
                *(CommitOperationAdd(name, files[name]) for name in changed),
                *(CommitOperationDelete(name) for name in stale),
            ],
            commit_message=message or f"Push {Path(model).name} with pauc-hub",
            revision=target.revision,
            create_pr=create_pr,
            parent_commit=there.sha,
        )
    return Pushed(
        repository=target.id,
        url=str(done.pr_url or done.commit_url),
        commit=done.oid,
        files=sizes,
        changed=(*changed, *stale),
        card=card,
    )


def _target(repository: str, revision: str | None) -> Repository:
    place = parse_repository(repository)
    if place.revision:
        raise UsageError(
            f"'{repository}' names a revision. Give it as revision='{place.revision}'."
        )
    return Repository(place.id, revision)


def _folder(model: str | Path) -> ModelFolder:
    """The model's folder, all files of which were compared with their sums."""
    place = locate(model).place
    if not isinstance(place, Path):
        raise UsageError(
            f"'{model}' is no model folder on this machine. Push a folder, a run, or a bundled "
            "model."
        )
    folder = open_folder(place)
    if not folder.pauc:
        raise ModelFolderError(
            f"'{place}' was not written by pauc-hub, and has no {SUMS}. Use "
            "timm.models.push_to_hf_hub for it."
        )
    if pickled := [
        name for name in folder.sums if name.endswith((".bin", ".pt", ".pth", ".pkl", ".ckpt"))
    ]:
        raise ModelFolderError(
            f"'{place}' lists '{pickled[0]}', which is not safetensors. Only safetensors are "
            "pushed."
        )
    folder.verify()
    return folder


def _with_gallery(folder: ModelFolder, picture: bytes) -> dict[str, bytes]:
    """The picture, the card with it, and the sums of both with those of the others."""
    card = read_bytes(folder.path / CARD)
    changed = {GALLERY: picture, CARD: card if SHOWN.encode() in card else card + SHOWN.encode()}
    sums = folder.sums | {name: sums_of(data)[0] for name, data in changed.items()}
    lines = (f"{sums[name]}  {name}\n" for name in sorted(sums))
    return changed | {SUMS: "".join(lines).encode()}


def _read(file: Path | bytes) -> bytes:
    return file if isinstance(file, bytes) else read_bytes(file)


def _standing(api: HfApi, target: Repository, private: bool) -> ModelInfo:
    """What the branch holds; repository and branch are made where there are none.

    This is the first question, and fails at once without a network; those of create_commit() repeat
    for 23 seconds.
    """
    try:
        there = _info(api, target)
    except RevisionNotFoundError:
        assert target.revision
        api.create_branch(target.id, branch=target.revision)
    except RepositoryNotFoundError:
        api.create_repo(target.id, private=private or None)
        if target.revision:
            api.create_branch(target.id, branch=target.revision)
    else:
        if private and not there.private:
            raise HubError(
                f"'{target.id}' exists and is public, and private=True is for new ones. Leave "
                "it out."
            )
        return there
    return _info(api, target)


def _info(api: HfApi, target: Repository) -> ModelInfo:
    return api.model_info(
        target.id,
        revision=target.revision,
        files_metadata=True,
        timeout=hub_patience.ANSWER_SECONDS,
    )


def _stored_sum(sibling: object) -> str | None:
    large = getattr(sibling, "lfs", None)
    return str(large.sha256) if large else getattr(sibling, "blob_id", None)


def _sums(file: Path | bytes) -> tuple[str, str]:
    """How the Hub names the content of a file: sha256 where it is large, git's own sum
    elsewhere.
    """
    return sums_of(file) if isinstance(file, bytes) else (file_sum(file), git_sum(file))


@contextmanager
def _explaining_refusals(target: Repository) -> Iterator[None]:
    """What goes wrong with a push alone; explaining() has the rest."""
    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code
        branch = target.revision or "main"
        if error.response.request.url.path.endswith("/repos/create") and status in MOVED:
            raise HubError(
                f"'{target.id}' exists, but this token may not see it. Use its owner's, or "
                "another name."
            ) from error
        if status in MOVED:
            raise HubError(
                f"'{target.id}' changed while this was being pushed, so nothing was overwritten. "
                f"Look at its branch {branch}, and push again."
            ) from error
        if status in REFUSED and error.response.request.method != "GET":
            raise HubError(
                f"{constants.ENDPOINT} does not let this token write to '{target.id}' ({status}). "
                "Use one with the right to write, and an owner that you may write for: `hf "
                "auth login`."
            ) from error
        raise
    except httpx2.ConnectError as error:
        raise HubError(
            f"{constants.ENDPOINT} cannot be reached, and '{target.id}' is as it was. Check the "
            "network."
        ) from error
    except httpx2.TransportError as error:
        if _committing(error):
            raise HubError(
                f"{constants.ENDPOINT} did not say whether it took the commit "
                f"({type(error).__name__}). "
                f"Push to '{target.id}' again: if it did, there is nothing left to do."
            ) from error
        raise HubError(
            f"the connection broke off ({type(error).__name__}), and '{target.id}' is as it was. "
            "Push again: what was stored is not sent twice."
        ) from error
    except RuntimeError as error:
        if isinstance(error, PaucError):
            raise
        raise HubError(
            f"the upload to '{target.id}' broke off "
            f"({' '.join(str(error.__cause__ or error).split())[:160]}). "
            "Nothing was changed there. Push again: what was stored is not sent twice."
        ) from error


def _committing(error: httpx2.TransportError) -> bool:
    """Whether the commit was under way: only then may it have been made."""
    try:
        return "/commit/" in error.request.url.path
    except RuntimeError:  # it is of no request
        return False


@contextmanager
def _bars_hidden(quiet: bool) -> Iterator[None]:
    """huggingface_hub's own progress bars, where they are not wanted."""
    if not quiet or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
