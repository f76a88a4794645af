"""Models that are fetched: what is asked of the Hub, what is kept, and one line for each way it can
go wrong.
"""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from hub_repositories import TOKEN, Fault
from hub_server import HubServer
from huggingface_hub import constants

from pauc_hub import progress
from pauc_hub.errors import HubError, ModelFolderError, Note, PaucError
from pauc_hub.files.checksums import file_sum
from pauc_hub.inference.model import load
from pauc_hub.models import download
from pauc_hub.models.folder import ModelFolder
from pauc_hub.models.opening import open_model

NAME, WEIGHTS = "test_resnet.r160_in1k", "model.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """timm's smallest ResNet with its classifier, random weights, saved by timm."""
    folder = tmp_path_factory.mktemp("models") / "saved"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        timm.models.save_for_hf(
            timm.create_model("test_resnet"), str(folder), safe_serialization=True
        )
    return folder


@pytest.fixture
def timms(hub: HubServer, saved: Path) -> HubServer:
    """With the weights that timm's registry speaks of."""
    hub.add(f"timm/{NAME}", saved)
    return hub


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """huggingface_hub waits a second before each of its five tries, and keeps chunks of 10 MB or
    nothing.
    """
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)


def refused(model: str) -> str:
    with pytest.raises(HubError) as refusal:
        open_model(model, quiet=True)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


@pytest.mark.parametrize("name", [NAME, "test_resnet", f"timm/{NAME}", "timm/test_resnet"])
def test_a_name_of_timm_is_its_weights_on_the_hub(timms: HubServer, saved: Path, name: str) -> None:
    model = load(name, device="cpu", precision="fp32", quiet=True)
    assert (model.name, model.width, model.preprocessing.size) == (NAME, 96, 160)
    assert model.weights_sha256 == file_sum(saved / WEIGHTS)
    squares = torch.randint(0, 256, (2, 160, 160, 3), dtype=torch.uint8)
    assert torch.equal(
        model.encode(squares), load(saved, device="cpu", precision="fp32").encode(squares)
    )
    assert timms.fetched() == {WEIGHTS: 1}


def test_it_is_fetched_once_and_then_needs_no_network(timms: HubServer) -> None:
    first = open_model(NAME, quiet=True)
    asked = len(timms.requests)
    assert open_model(NAME, quiet=True) == first
    assert timms.fetched() == {WEIGHTS: 1}
    assert len(timms.requests) == asked + 2
    timms.stop()
    assert open_model(NAME, quiet=True) == first


def test_offline_takes_what_is_in_the_cache(
    timms: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_model(NAME, quiet=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(timms.requests)
    assert open_model(NAME, quiet=True) == first
    assert len(timms.requests) == asked


def test_the_hub_is_asked_whether_there_is_something_newer(timms: HubServer, saved: Path) -> None:
    first = open_model(NAME, quiet=True)
    tensors = {
        name: tensor + 1 for name, tensor in safetensors.torch.load_file(saved / WEIGHTS).items()
    }
    timms.add(f"timm/{NAME}", {WEIGHTS: safetensors.torch.save(tensors)})
    assert open_model(NAME, quiet=True).weights_sha256 != first.weights_sha256


def test_pickled_weights_are_fetched_where_there_are_no_others(
    hub: HubServer, saved: Path, tmp_path: Path
) -> None:
    torch.save(safetensors.torch.load_file(saved / WEIGHTS), tmp_path / "weights")
    hub.add(f"timm/{NAME}", {"pytorch_model.bin": (tmp_path / "weights").read_bytes()})
    assert load(NAME, device="cpu", quiet=True).width == 96
    hub.stop()
    assert open_model(NAME, quiet=True).weights == "pytorch_model.bin"


def test_a_repository_is_a_folder_that_timm_saved(hub: HubServer, saved: Path) -> None:
    hub.add(
        "me/mine",
        {path.name: path.read_bytes() for path in saved.iterdir()} | {"onnx.bin": b"large"},
    )
    model = load("hf-hub:me/mine", device="cpu", quiet=True)
    assert (model.name, model.width) == ("hf-hub:me/mine", 96)
    assert hub.fetched() == {"config.json": 1, WEIGHTS: 1}


def test_a_revision_is_what_it_was(hub: HubServer, saved: Path) -> None:
    files = {path.name: path.read_bytes() for path in saved.iterdir()}
    old = hub.add("me/mine", files, tag="v1")
    hub.add("me/mine", files | {"config.json": b"{}"})
    for revision in ("v1", old):
        folder = open_model(f"hf-hub:me/mine@{revision}", quiet=True)
        assert folder.name == f"hf-hub:me/mine@{revision}"
    with pytest.raises(
        ModelFolderError,
        match=r"^'hf-hub:me/mine/config\.json' names no architecture of timm's\.",
    ):
        open_model("hf-hub:me/mine", quiet=True)
    asked = len(hub.requests)
    open_model(f"hf-hub:me/mine@{old}", quiet=True)
    assert len(hub.requests) == asked, "a commit never changes"


def test_all_files_are_of_one_commit(
    hub: HubServer, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody pushes while we fetch."""
    files = {path.name: path.read_bytes() for path in saved.iterdir()}
    hub.add("me/mine", files)
    fetch: Callable[..., Path] = download.fetch_file

    def fetch_and_push(*given: object, **options: bool) -> Path:
        file = fetch(*given, **options)
        hub.add("me/mine", files | {WEIGHTS: b"another"})
        return file

    monkeypatch.setattr(download, "fetch_file", fetch_and_push)
    assert open_model("hf-hub:me/mine", quiet=True).weights_sha256 == file_sum(saved / WEIGHTS)


def test_a_folder_of_ours_comes_with_head_and_prototypes(
    hub: HubServer, model_folder: Path
) -> None:
    hub.add("me/tiny", model_folder)
    model = load("hf-hub:me/tiny", device="cpu", quiet=True)
    assert model.width_in("projection") == 16
    assert len(model.prototypes) == 1
    model.folder.verify()
    hub.stop()
    assert isinstance(open_model("hf-hub:me/tiny", quiet=True), ModelFolder)


def test_a_model_of_something_else_is_refused_before_its_weights_are_fetched(
    hub: HubServer,
) -> None:
    hub.add("them/bert", {"config.json": b'{"architectures": ["BertModel"]}', WEIGHTS: b"large"})
    with pytest.raises(
        ModelFolderError,
        match=r"^'hf-hub:them/bert/config\.json' names no architecture of timm's\.",
    ):
        open_model("hf-hub:them/bert", quiet=True)
    assert hub.fetched() == {"config.json": 1}


@pytest.mark.parametrize("by", ["environment", "login"])
def test_a_token_opens_what_is_private(
    hub: HubServer, saved: Path, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("me/secret", saved, private=True)
    if by == "environment":
        monkeypatch.setenv("HF_TOKEN", TOKEN)
    else:
        Path(constants.HF_TOKEN_PATH).write_text(TOKEN)
    assert open_model("hf-hub:me/secret", quiet=True).architecture == "test_resnet"


ABSENT = (
    "there is no model '{name}' on {hub}, or it is private. "
    "Check the name; if it is private, log in with `hf auth login` or set HF_TOKEN."
)
ANSWERS = [
    ("hf-hub:me/nothing", ABSENT),
    ("hf-hub:me/secret", ABSENT),
    (
        "hf-hub:me/gated",
        (
            "'me/gated' is gated. Ask for access on {hub}/me/gated, then log in with `hf auth "
            "login` or set HF_TOKEN."
        ),
    ),
    ("hf-hub:me/mine@v9", "'me/mine' has no revision 'v9'. Leave it out for the main branch."),
    (
        "hf-hub:me/empty",
        "'me/empty' has no config.json. Is it a model that timm or pauc-hub saved?",
    ),
    (
        "hf-hub:me/weightless",
        (
            "'me/weightless' has no model.safetensors or pytorch_model.bin. Is it a model that "
            "timm or pauc-hub saved?"
        ),
    ),
    ("hf-hub:me--mine/x", "'me--mine/x' is no name of a repository ("),
]


@pytest.mark.parametrize(("model", "message"), ANSWERS, ids=[row[0] for row in ANSWERS])
def test_what_the_hub_refuses_is_one_line(
    hub: HubServer, saved: Path, model: str, message: str
) -> None:
    hub.add("me/mine", saved)
    hub.add("me/secret", saved, private=True)
    hub.add("me/gated", saved, gated=True)
    hub.add("me/empty", {})
    hub.add("me/weightless", {"config.json": (saved / "config.json").read_bytes()})
    assert refused(model).startswith(
        message.format(hub=hub.url, name=model.removeprefix("hf-hub:"))
    )


def test_a_wrong_token_is_told(timms: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert refused(NAME) == (
        f"{timms.url} refused the token for 'timm/{NAME}'. Log in again with `hf auth login`, "
        "or set HF_TOKEN anew."
    )


def test_a_hub_that_is_out_of_order_is_told(timms: HubServer) -> None:
    timms.faults[WEIGHTS] = Fault(status=500)
    assert (
        refused(NAME) == f"{timms.url} answered 500 when asked for 'timm/{NAME}'. Try again later."
    )


@pytest.mark.parametrize("model", [NAME, "hf-hub:me/mine"])
def test_without_a_network_nothing_is_waited_for(
    timms: HubServer, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timms.stop()
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    repository = "me/mine" if ":" in model else f"timm/{NAME}"
    message = refused(model)
    assert message.startswith(f"{timms.url} cannot be reached (")
    cache = tmp_path / "cache"
    assert message.endswith(
        f"), and '{repository}' is not in the cache '{cache}'. Check the network, or give a "
        "model folder."
    )
    assert sum(waits) < 5


def test_offline_and_not_in_the_cache(
    timms: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert refused(NAME) == (
        f"'timm/{NAME}' is not in the cache '{tmp_path / 'cache'}', and HF_HUB_OFFLINE forbids "
        "fetching it. "
        "Unset it once."
    )
    assert timms.requests == []


@pytest.mark.usefixtures("impatient")
def test_a_download_that_breaks_off_goes_on(timms: HubServer, saved: Path) -> None:
    timms.faults[WEIGHTS] = Fault(cut=1000, times=2)
    with pytest.warns(
        Note, match=rf"^the connection to {timms.url} broke off; going on with the download\.$"
    ):
        assert open_model(NAME, quiet=True).weights_sha256 == file_sum(saved / WEIGHTS)
    assert [asked for method, _, asked in timms.requests if method == "GET"] == [
        "",
        "bytes=1000-",
        "bytes=2000-",
    ]


@pytest.mark.usefixtures("impatient")
@pytest.mark.filterwarnings("ignore::pauc_hub.errors.Note")
def test_half_a_download_is_one_line_and_no_weights(
    timms: HubServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    timms.faults[WEIGHTS] = Fault(cut=0)
    with caplog.at_level(logging.INFO):
        message = refused(NAME)
    assert message.startswith(f"the download of 'timm/{NAME}' broke off (")
    assert message.endswith("). Try again.")
    assert [record for record in caplog.records if record.name.startswith("huggingface_hub")] == []
    assert list((tmp_path / "cache").rglob(WEIGHTS)) == []
    timms.faults.clear()
    open_model(NAME, quiet=True)


def test_weights_that_were_changed_on_the_way_are_refused_and_removed(
    timms: HubServer, tmp_path: Path
) -> None:
    timms.faults[WEIGHTS] = Fault(changed=True, times=1)
    message = refused(NAME)
    assert message.startswith(f"'{tmp_path / 'cache'}")
    assert message.endswith(
        f"{WEIGHTS}' was damaged, and has been removed. The same command fetches it again."
    )
    open_model(NAME, quiet=True)


def test_a_cache_that_cannot_be_written_to_is_named(timms: HubServer, tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    message = refused(NAME)
    assert message.startswith(
        f"'timm/{NAME}' cannot be stored in the cache '{tmp_path / 'cache'}' ("
    )
    assert message.endswith("). Set HF_HOME to another place.")


@pytest.mark.parametrize("quiet", [False, True])
def test_a_download_shows_a_bar(
    timms: HubServer,
    quiet: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    open_model(NAME, quiet=quiet)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("" if quiet else f"fetching {WEIGHTS}: ")
    assert bool(shown.err) != quiet


def test_the_few_with_a_url_go_into_torchs_cache(
    tmp_path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    source = tmp_path / "there" / "net.safetensors"
    source.write_bytes((saved / WEIGHTS).read_bytes())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    fetched = download.fetch_url(source.as_uri(), quiet=True)
    assert fetched == tmp_path / "torch" / "checkpoints" / "net.safetensors"
    assert fetched.read_bytes() == source.read_bytes()
    source.unlink()
    assert download.fetch_url(source.as_uri(), quiet=True) == fetched
    fetched.unlink()
    with pytest.raises(
        HubError, match=r"net\.safetensors' cannot be fetched \(.*\)\. Check the network"
    ):
        download.fetch_url(source.as_uri(), quiet=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        HubError, match=r"^'net\.safetensors' is not in '.*', and HF_HUB_OFFLINE forbids"
    ):
        download.fetch_url(source.as_uri(), quiet=True)


def test_every_registered_model_says_where_its_weights_are() -> None:
    from pauc_hub.models.timm_registry import read_pretrained

    entries = [
        read_pretrained(name)
        for name in timm.list_models(pretrained=True)
        if not name.startswith("pauc_")
    ]
    assert len(entries) > 1500
    assert all(entry.repository or entry.url for entry in entries)
    assert json.dumps(entries[0].config)


def test_all_of_it_is_an_error_of_ours() -> None:
    assert issubclass(HubError, PaucError)
