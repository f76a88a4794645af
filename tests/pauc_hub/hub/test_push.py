"""Push to a Hub on this machine and pull back: one commit or nothing, the same bytes, one line for
each failure.
"""

import errno
import shutil
import time
from pathlib import Path

import pytest
import timm
import torch
from hub_repositories import WEAK_TOKEN, Fault
from hub_server import HubServer
from huggingface_hub import constants

from pauc_hub.cli import run
from pauc_hub.errors import HubError, ModelFolderError, OutputExists, PaucError, UsageError
from pauc_hub.hub.pull import pull
from pauc_hub.hub.push import push
from pauc_hub.inference.model import load
from pauc_hub.models.bundled import bundled_folders
from pauc_hub.models.opening import open_model

ME = "me/tiny"
pytestmark = [
    pytest.mark.usefixtures("writer"),
    # huggingface_hub's own call, which its HTTP client deprecates.
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
    # That something is tried again; test_hub_faults.py looks at it.
    pytest.mark.filterwarnings("ignore::pauc_hub.errors.Note"),
]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refused(hub: HubServer, folder: Path, **options: object) -> str:
    """The one line; nothing was committed."""
    before = {name: len(each.commits) for name, each in hub.repositories.items()}
    with pytest.raises(HubError) as refusal:
        push(folder, ME, quiet=True, **options)  # type: ignore[arg-type]
    assert "\n" not in str(refusal.value)
    assert all(len(hub.repositories[name].commits) == count for name, count in before.items())
    return str(refusal.value)


def commits(hub: HubServer) -> int:
    return len(hub.repositories[ME].commits)


def test_what_is_pushed_is_pulled_byte_for_byte(
    hub: HubServer, model_folder: Path, tmp_path: Path
) -> None:
    pushed = push(model_folder, ME, private=True, message="first", quiet=True)
    # The first commit is the one that makes the repository.
    assert commits(hub) == 2
    assert hub.repositories[ME].private
    assert set(pushed.changed) == set(content(model_folder))
    pulled = pull(ME, tmp_path / "back", quiet=True)
    assert content(pulled.output) == content(model_folder)
    assert pulled.commit == pushed.commit
    with pytest.raises(OutputExists):
        pull(ME, tmp_path / "back", quiet=True)


def test_the_bundled_model_survives_the_journey(hub: HubServer, tmp_path: Path) -> None:
    folder = bundled_folders()[0]
    push(folder.name, ME, quiet=True)
    assert content(pull(ME, tmp_path / "back", quiet=True).output) == content(folder)


def test_timm_and_pauc_load_what_was_pushed(hub: HubServer, model_folder: Path) -> None:
    push(model_folder, ME, quiet=True)
    theirs = timm.create_model(f"hf-hub:{ME}", pretrained=True).eval()
    ours = load(f"hf-hub:{ME}", device="cpu", precision="fp32", quiet=True)
    squares = torch.randint(
        0, 256, (2, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    pixels = ours.preprocessing.normalise(squares)
    with torch.inference_mode():
        torch.testing.assert_close(theirs(pixels), ours.encode(squares), atol=1e-4, rtol=1e-4)
    assert torch.equal(
        ours.encode(squares), load(model_folder, device="cpu", precision="fp32").encode(squares)
    )


def test_the_command_line_tells_what_it_did(
    hub: HubServer, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["push", str(model_folder), ME, "--dry-run"]) == 0
    size = (model_folder / "facts.json").stat().st_size
    assert ["facts.json", f"{size:,}", "bytes"] in [
        line.split() for line in capsys.readouterr().out.splitlines()
    ]
    assert run(["push", str(model_folder), ME, "--quiet"]) == 0
    assert run(["push", str(model_folder), ME]) == 0
    commit = hub.repositories[ME].commits[-1].sha[:12]
    assert (
        f"/{ME}: nothing to do, all 9 files are there (commit {commit})\n"
        in capsys.readouterr().out
    )
    assert run(["pull", ME, "-o", str(tmp_path / "back")]) == 0
    assert f"of commit {commit}, every sha256 compared\n" in capsys.readouterr().out
    assert run(["push", str(model_folder), ME, "--private"]) == 1
    assert (
        capsys.readouterr().err
        == f"error: '{ME}' exists and is public, and --private is for new ones. Leave it out.\n"
    )


def test_ctrl_c_leaves_no_commit(
    hub: HubServer,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hub.add(ME, {"a": b"1"})

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("huggingface_hub._commit_api.lfs_upload", interrupt)
    assert run(["push", str(model_folder), ME, "--quiet"]) == 130
    assert capsys.readouterr().err == "error: interrupted\n"
    assert commits(hub) == 1


def test_by_xet_too(
    hub: HubServer, model_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The way that users take; the bytes go to a folder here, in place of xet's own server."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    hub.add(ME, {"a": b"1"})
    hub.xet = tmp_path / "xet"
    hub.xet.mkdir()
    push(model_folder, ME, quiet=True)
    assert set(content(model_folder)) <= hub.repositories[ME].commits[-1].files.keys()
    assert not hub.uploaded
    stored = sum(path.stat().st_size for path in hub.xet.rglob("*") if path.is_file())
    assert stored > (model_folder / "model.safetensors").stat().st_size / 2


def test_a_second_push_does_nothing(hub: HubServer, model_folder: Path) -> None:
    first = push(model_folder, ME, quiet=True)
    again = push(model_folder, ME, quiet=True)
    assert (again.changed, again.commit) == ((), first.commit)
    assert commits(hub) == 2


def test_parts_of_an_earlier_model_do_not_stay(
    hub: HubServer, model_folder: Path, headless_folder: Path, tmp_path: Path
) -> None:
    push(model_folder, ME, quiet=True)
    pushed = push(headless_folder, ME, quiet=True)
    assert {"projector.safetensors", "prototypes.safetensors"} <= set(pushed.changed)
    # The same bytes are not sent again.
    assert "model.safetensors" not in pushed.changed
    assert hub.repositories[ME].commits[-1].files.keys() == {
        *content(headless_folder),
        ".gitattributes",
    }


def test_a_branch_and_a_pull_request(hub: HubServer, model_folder: Path, tmp_path: Path) -> None:
    push(model_folder, ME, revision="try", quiet=True)
    assert pull(f"{ME}@try", tmp_path / "try", quiet=True).files
    with pytest.raises(HubError, match="has no SHA256SUMS"):
        pull(ME, tmp_path / "main", quiet=True)
    asked = push(model_folder, ME, create_pr=True, quiet=True)
    assert asked.url.endswith("/discussions/1")
    with pytest.raises(HubError, match="has no SHA256SUMS"):
        pull(ME, tmp_path / "main", quiet=True)


def test_a_dry_run_asks_the_hub_nothing(
    hub: HubServer, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    planned = push(model_folder, ME, dry_run=True)
    assert planned.files == {name: len(data) for name, data in content(model_folder).items()}
    assert hub.requests == []


def test_a_branch_that_moves_is_not_overwritten(hub: HubServer, model_folder: Path) -> None:
    hub.add(ME, {"config.json": b"{}"})
    hub.before_commit = lambda: hub.add(ME, {"theirs": b"1"})
    with pytest.raises(
        HubError, match=f"^'{ME}' changed while this was being pushed, so nothing was overwritten"
    ):
        push(model_folder, ME, quiet=True)
    assert hub.repositories[ME].commits[-1].files == {"theirs": b"1"}
    push(model_folder, ME, quiet=True)
    assert hub.repositories[ME].commits[-1].files["theirs"] == b"1"


def test_without_a_token(
    hub: HubServer, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    line = (
        f"pushing to '{ME}' needs a token with the right to write: log in with `hf auth login` "
        "or set HF_TOKEN."
    )
    assert refused(hub, model_folder) == line
    assert hub.requests == []


@pytest.mark.parametrize("exists", [True, False])
def test_a_token_that_may_only_read(
    hub: HubServer, model_folder: Path, monkeypatch: pytest.MonkeyPatch, exists: bool
) -> None:
    monkeypatch.setenv("HF_TOKEN", WEAK_TOKEN)
    if exists:
        hub.add(ME, {"a": b"1"})
    assert f"does not let this token write to '{ME}' (403)" in refused(hub, model_folder)


def test_a_token_that_is_none(
    hub: HubServer, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    hub.add(ME, {"a": b"1"})
    assert "refused the token" in refused(hub, model_folder)


def test_a_repository_that_may_not_be_seen(
    hub: HubServer, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(ME, {"a": b"1"}, private=True)
    hub.faults["create"] = Fault(status=409)
    monkeypatch.setenv("HF_TOKEN", WEAK_TOKEN)
    assert (
        refused(hub, model_folder)
        == f"'{ME}' exists, but this token may not see it. Use its owner's, or another name."
    )


def test_private_is_for_new_ones(hub: HubServer, model_folder: Path) -> None:
    hub.add(ME, {"a": b"1"})
    assert refused(hub, model_folder, private=True).startswith(
        f"'{ME}' exists and is public, and private=True"
    )


def test_without_a_network_nothing_is_waited_for(
    hub: HubServer, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.stop()
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    with pytest.raises(
        HubError, match=rf"cannot be reached, and '{ME}' is as it was\. Check the network\.$"
    ):
        push(model_folder, ME, quiet=True)
    assert sum(waits) < 10


@pytest.mark.parametrize("step", ["preupload", "lfs-batch", "lfs", "commit"])
def test_an_upload_that_breaks_goes_on_next_time(
    hub: HubServer, model_folder: Path, step: str
) -> None:
    hub.add(ME, {"a": b"1"})
    hub.faults[step] = Fault(status=500)
    assert ME in refused(hub, model_folder)
    stored = set(hub.uploaded)
    hub.faults.clear()
    hub.requests.clear()
    push(model_folder, ME, quiet=True)
    sent = {path.rpartition("/")[2] for method, path, _ in hub.requests if method == "PUT"}
    assert not sent & stored
    assert set(content(model_folder)) <= hub.repositories[ME].commits[-1].files.keys()


def test_a_token_that_expires_half_way(hub: HubServer, model_folder: Path) -> None:
    hub.add(ME, {"a": b"1"})
    hub.faults["commit"] = Fault(status=401)
    assert f"does not let this token write to '{ME}' (401)" in refused(hub, model_folder)
    assert hub.uploaded


def test_one_refusal_in_passing_is_tried_again(hub: HubServer, model_folder: Path) -> None:
    hub.add(ME, {"a": b"1"})
    hub.faults["lfs"] = Fault(status=503, times=1)
    push(model_folder, ME, quiet=True)
    assert commits(hub) == 2


def test_of_a_run_its_model_is_pushed(hub: HubServer, model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(model_folder, folder / "model")
    for name in ("metrics.jsonl", "config.json"):
        (folder / name).write_text("{}\n")
    push(folder, ME, quiet=True)
    pushed = hub.repositories[ME].commits[-1].files
    assert {name: pushed[name] for name in content(model_folder)} == content(model_folder)


def test_cut_connections_are_one_line(hub: HubServer, model_folder: Path) -> None:
    hub.add(ME, {"a": b"1"})
    hub.faults["lfs"] = Fault(cut=0)
    assert "broke off" in refused(hub, model_folder)


def test_asked_too_often(hub: HubServer, model_folder: Path) -> None:
    hub.add(ME, {"a": b"1"})
    hub.faults["commit"] = Fault(status=429, headers={"Retry-After": "7"})
    assert refused(hub, model_folder).endswith("was asked too often (429). Try again in 7 seconds.")


def test_only_whole_model_folders_are_pushed(
    hub: HubServer, model_folder: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for name, data in content(model_folder).items():
        (damaged / name).write_bytes(data[:-1] + b"?" if name == "facts.json" else data)
    with pytest.raises(ModelFolderError, match=r"facts\.json' is damaged"):
        push(damaged, ME, quiet=True)
    with pytest.raises(UsageError, match="is no model folder on this machine"):
        push("hf-hub:you/model", ME, quiet=True)
    with pytest.raises(UsageError, match=r"^'tiny' names no repository\. Write owner/name\.$"):
        push(model_folder, "tiny", quiet=True)
    with pytest.raises(UsageError, match=r"^'ti ny/a' names no repository"):
        pull("ti ny/a", quiet=True)
    assert hub.requests == []


@pytest.mark.parametrize("name", ["SHA256SUMS", "config.json", "model.safetensors"])
def test_wrong_bytes_are_never_loaded(
    hub: HubServer, model_folder: Path, tmp_path: Path, name: str
) -> None:
    push(model_folder, ME, quiet=True)
    hub.faults[name] = Fault(changed=True)
    with pytest.raises(HubError, match="has been removed"):
        open_model(f"hf-hub:{ME}", quiet=True)
    with pytest.raises(HubError, match=r"removed from the cache|has been removed"):
        pull(ME, tmp_path / "back", quiet=True)
    assert not (tmp_path / "back").exists()
    hub.faults.clear()
    assert content(pull(ME, tmp_path / "back", quiet=True).output) == content(model_folder)


def test_a_file_that_is_not_what_its_sums_say(
    hub: HubServer, model_folder: Path, tmp_path: Path
) -> None:
    hub.add(ME, content(model_folder) | {"projector.safetensors": b"other"})
    with pytest.raises(HubError, match=r"but its SHA256SUMS says"):
        pull(ME, tmp_path / "back", quiet=True)
    assert list(tmp_path.glob("*back*")) == []


def test_a_full_disk_leaves_nothing(
    hub: HubServer, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(ME, content(model_folder))

    def full(source: Path, target: Path) -> None:
        target.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pauc_hub.files.atomic.shutil.copyfile", full)
    with pytest.raises(PaucError, match=r"could not be written \(No space left on device\)"):
        pull(ME, tmp_path / "back", quiet=True)
    assert list(tmp_path.glob("*back*")) == []
