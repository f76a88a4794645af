"""The function behind `pauc pull`: a model folder from the Hugging Face Hub, with every file
checked.
"""

from dataclasses import dataclass
from pathlib import Path

from pauc_hub.files.atomic import copy_directory
from pauc_hub.files.checksums import SUMS, read_sums
from pauc_hub.files.failures import writing
from pauc_hub.models.catalog import Repository, parse_repository
from pauc_hub.models.download import check_blob, check_sum, fetch_file
from pauc_hub.models.entry import HUB
from pauc_hub.models.folder import open_folder
from pauc_hub.models.write_folder import refuse_to_replace


@dataclass(frozen=True)
class Pulled:
    """What pull() did."""

    output: Path
    repository: str
    commit: str
    """The sha that the files are from."""
    files: dict[str, int]
    """Name to size in bytes."""


def pull(
    repository: str,
    output: str | Path | None = None,
    *,
    overwrite: bool = False,
    quiet: bool = False,
) -> Pulled:
    """Fetch a model folder: there whole, with every file compared with its sum, or not at all.

    Args:
        repository: `owner/name` or `owner/name@revision`.
        output: the folder; one of the repository's name unless given.
        overwrite: replace a model folder that is there.
        quiet: no progress bars.

    Raises:
        UsageError: `repository` is no name.
        OutputExists: something stands there that may not be replaced.
        HubError: it cannot be fetched, or holds other bytes than its sums say.
        ModelFolderError: what it holds is no model folder.
        PaucError: it cannot be written, as on a full disk.
    """
    asked = parse_repository(repository)
    place = Path(output or asked.id.partition("/")[2]).expanduser().resolve()
    refuse_to_replace(place, overwrite)
    unpushed = (
        "Only what `pauc push` put there is pulled; any other model is used by its name, "
        f"{HUB}{asked.id}."
    )
    sums = fetch_file(asked, [SUMS], quiet=quiet, missing=unpushed)
    check_blob(sums)
    # All files of one commit, also while somebody pushes another.
    pinned = Repository(asked.id, sums.parent.name)
    files = [sums]
    for name, expected in read_sums(sums.parent).items():
        file = fetch_file(pinned, [name], quiet=quiet)
        check_blob(file)
        check_sum(file, expected, f"'{asked.id}'", f"its {SUMS}")
        files.append(file)
    open_folder(sums.parent)
    with writing(place, ", and was left as it was."):
        copy_directory(place, files)
    sizes = {file.name: file.stat().st_size for file in files}
    return Pulled(place, asked.id, pinned.revision or "", sizes)
