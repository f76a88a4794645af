"""From MODEL to a model folder: what is not here is fetched."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

from pauc_hub.errors import HubError, Note
from pauc_hub.files.checksums import SUMS, read_sums
from pauc_hub.models.catalog import Located, Repository, TimmName, locate
from pauc_hub.models.entry import HUB
from pauc_hub.models.folder import (
    MODEL_CONFIG,
    WEIGHT_FILES,
    ModelFolder,
    check_foreign,
    open_folder,
)
from pauc_hub.models.hub_weights import HubWeights


def open_model(model: str | Path | Located | ModelFolder, *, quiet: bool = False) -> ModelFolder:
    """The folder of any model, its weights fetched if need be.

    Args:
        model: what locate() takes or gives; a folder that was opened before stays what it is.
        quiet: no progress bar while something is fetched.

    Raises:
        UnknownModel, MissingWeights: as locate() does.
        ModelFolderError: it is damaged, or nothing that this package can read.
        HubError: it cannot be fetched.
    """
    if isinstance(model, ModelFolder):
        return model
    located = model if isinstance(model, Located) else locate(model)
    if located.note:
        warnings.warn(located.note, Note, stacklevel=2)
    match located.place:
        case HubWeights() as listed:
            return _open_listed(listed, quiet)
        case TimmName(name=name):
            return _open_registered(name, quiet)
        case Repository() as repository:
            return _open_repository(repository, quiet)
        case Path() as path:
            return open_folder(path)


def _open_registered(name: str, quiet: bool) -> ModelFolder:
    """timm's registry is the config.json, and the folder is that of the weights in the cache."""
    from pauc_hub.models.download import check_blob, fetch_file, fetch_url
    from pauc_hub.models.timm_registry import read_pretrained

    entry = read_pretrained(name)
    if entry.repository:
        identity, _, revision = entry.repository.partition("@")
        names = (entry.filename,) if entry.filename else WEIGHT_FILES
        file = fetch_file(Repository(identity, revision or None), names, quiet=quiet)
    elif entry.url:
        file = fetch_url(entry.url, quiet=quiet)
    else:
        raise HubError(f"timm does not say where the weights of '{name}' are.")
    return ModelFolder(
        path=file.parent,
        config=entry.config,
        sums={file.name: check_blob(file)},
        weights=file.name,
        given_name=name,
        registered=True,
    )


def _open_listed(listed: HubWeights, quiet: bool) -> ModelFolder:
    """Its weights are compared with the sum that this package knows, whatever the Hub says of
    them.
    """
    repository = Repository(listed.repository, listed.commit)
    try:
        folder = _open_repository(repository, quiet, sha256=listed.sha256)
    except HubError as error:
        raise HubError(
            f"the weights of {listed.name} are not in the package but fetched, and {error}"
        ) from error
    return replace(folder, given_name=listed.name)


def _open_repository(repository: Repository, quiet: bool, sha256: str | None = None) -> ModelFolder:
    """The folder of a repository.

    Args:
        sha256: what the weights must have; the Hub's own sum is compared in any case.
    """
    from pauc_hub.models.download import check_blob, check_sum, fetch_file

    config = fetch_file(repository, [MODEL_CONFIG], quiet=quiet)
    check_blob(config)
    # All files of one commit, also while somebody pushes another.
    pinned = Repository(repository.id, config.parent.name)
    ours = _is_ours(config, repository)
    weights = fetch_file(pinned, WEIGHT_FILES, quiet=quiet)
    check_blob(weights)
    if sha256:
        check_sum(weights, sha256, f"'{repository.id}'", "this version of pauc-hub")
    if ours:
        sums = fetch_file(pinned, [SUMS], quiet=quiet)
        check_blob(sums)
        for name in read_sums(sums.parent):
            fetch_file(pinned, [name], quiet=quiet)
    revision = f"@{repository.revision}" if repository.revision else ""
    return replace(open_folder(config.parent), given_name=f"{HUB}{repository.id}{revision}")


def _is_ours(config: Path, repository: Repository) -> bool:
    """Whether pauc-hub wrote it; what neither it nor timm wrote is refused before its weights are
    fetched.
    """
    try:
        content = json.loads(config.read_bytes())
    except ValueError:
        content = None
    place = f"{HUB}{repository.id}/{MODEL_CONFIG}"
    if isinstance(content, dict) and "pauc" in content:
        return True
    check_foreign(content if isinstance(content, dict) else {}, place)
    return False
