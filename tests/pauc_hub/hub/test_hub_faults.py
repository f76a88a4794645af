"""A Hub that is slow, silent, gated or tired of a token: one line each, a word while it lasts,
nothing half-written.
"""

import logging
import time
from pathlib import Path

import pytest
from hub_repositories import TOKEN, WEAK_TOKEN, Fault
from hub_server import HubServer
from huggingface_hub import close_session, constants, get_session

from pauc_hub.errors import HubError, Note
from pauc_hub.hub.listing import list_hub
from pauc_hub.hub.pull import pull
from pauc_hub.hub.push import push
from pauc_hub.models import hub_patience
from pauc_hub.models.hub_patience import Retries

ME = "me/tiny"
pytestmark = [
    pytest.mark.usefixtures("writer"),
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pauc_hub.errors.Note"),
]
EXPIRED = Fault(
    status=401, headers={"X-Error-Message": "Invalid credentials in Authorization header"}
)


@pytest.fixture
def theirs(hub: HubServer, model_folder: Path) -> HubServer:
    """With the model on it."""
    hub.add(ME, model_folder)
    return hub


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_patience, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)


def refused_push(folder: Path) -> str:
    with pytest.raises(HubError) as refusal:
        push(folder, ME, quiet=True)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def refused_pull(place: Path) -> str:
    """And nothing is left beside the cache."""
    with pytest.raises(HubError) as refusal:
        pull(ME, place, quiet=True)
    assert "\n" not in str(refusal.value)
    assert list(place.parent.glob(f"*{place.name}*")) == []
    return str(refusal.value)


def test_a_slow_hub_is_waited_for(hub: HubServer, model_folder: Path, tmp_path: Path) -> None:
    hub.faults |= {name: Fault(seconds=0.2) for name in ("info", "commit", "model.safetensors")}
    push(model_folder, ME, quiet=True)
    assert pull(ME, tmp_path / "back", quiet=True).files.keys() == {
        path.name for path in model_folder.iterdir()
    }


@pytest.mark.usefixtures("impatient")
def test_no_question_waits_for_ever(theirs: HubServer, model_folder: Path) -> None:
    """Left alone, huggingface_hub would: its client has no time limit."""
    assert get_session().timeout.read is None
    theirs.faults["info"] = Fault(seconds=2)
    start = time.monotonic()
    assert refused_push(model_folder) == (
        f"the connection broke off (ReadTimeout), and '{ME}' is as it was. "
        "Push again: what was stored is not sent twice."
    )
    assert time.monotonic() - start < 2
    # Whoever uses huggingface_hub beside us has it as before.
    assert get_session().timeout.read is None


@pytest.mark.usefixtures("impatient")
def test_a_download_that_stands_still(theirs: HubServer, tmp_path: Path) -> None:
    theirs.faults["SHA256SUMS"] = Fault(seconds=2)
    assert refused_pull(tmp_path / "back").startswith(f"{theirs.url} cannot be reached (")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", [Fault(seconds=1), Fault(cut=0)], ids=["no answer", "cut"])
def test_a_commit_without_an_answer_may_have_been_made(
    hub: HubServer, model_folder: Path, fault: Fault
) -> None:
    hub.add(ME, {"a": b"1"})
    hub.faults["commit"] = fault
    message = refused_push(model_folder)
    assert message.startswith(f"{hub.url} did not say whether it took the commit (")
    assert message.endswith(f"Push to '{ME}' again: if it did, there is nothing left to do.")
    hub.faults.clear()
    while len(hub.repositories[ME].commits) < 2:
        time.sleep(0.01)
    assert push(model_folder, ME, quiet=True).changed == ()


def test_what_is_tried_again_is_said_once(hub: HubServer, model_folder: Path) -> None:
    hub.add(ME, {"a": b"1"})
    hub.faults["preupload"] = Fault(status=503, times=3)
    with pytest.warns(Note) as notes:
        push(model_folder, ME, quiet=True)
    assert [str(note.message) for note in notes if note.category is Note] == [
        f"{hub.url} has trouble (HTTP Error 503); trying again, for half a minute at most."
    ]


def test_a_connection_that_is_lost_half_way_is_said_at_once(
    hub: HubServer, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client tries again for 23 seconds, unless the card is what it asks about first."""
    hub.add(ME, {"README.md": (model_folder / "README.md").read_bytes()})
    slept: list[float] = []
    said: list[tuple[int, str]] = []
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", slept.append)
    warn = "pauc_hub.models.hub_patience.warnings.warn"
    monkeypatch.setattr(warn, lambda text, *_, **__: said.append((len(slept), text)))
    ask = push.__globals__["_standing"]

    def ask_and_stop(*given: object) -> object:
        there = ask(*given)
        hub.stop()
        # Its open connections would go on.
        close_session()
        return there

    monkeypatch.setitem(push.__globals__, "_standing", ask_and_stop)
    assert f"'{ME}' is as it was" in refused_push(model_folder)
    assert sum(slept) >= 20
    assert [sleeps for sleeps, text in said if "trying again" in text] == [0]


def test_a_hub_that_asks_for_time_is_given_it(hub: HubServer, model_folder: Path) -> None:
    hub.add(ME, {"a": b"1"})
    hub.faults["preupload"] = Fault(status=429, headers={"Retry-After": "7"}, times=1)
    with pytest.warns(Note, match=r"was asked too often; waiting for 8 seconds\.$"):
        push(model_folder, ME, quiet=True)


def test_a_wait_that_is_worded_otherwise_is_told_without_its_length() -> None:
    record = logging.LogRecord("", logging.WARNING, "", 0, "Rate limited. Wait 7.0s.", (), None)
    with pytest.warns(Note, match=r"was asked too often; waiting for as long as it asks\.$"):
        Retries().emit(record)


def test_a_pull_that_is_asked_for_time(theirs: HubServer, tmp_path: Path) -> None:
    theirs.faults["config.json"] = Fault(status=429, headers={"Retry-After": "7"})
    assert refused_pull(tmp_path / "back").endswith(
        "was asked too often (429). Try again in 7 seconds."
    )


@pytest.mark.parametrize("token", [None, WEAK_TOKEN])
def test_gated(
    theirs: HubServer,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    token: str | None,
) -> None:
    theirs.repositories[ME].gated = True
    monkeypatch.delenv("HF_TOKEN")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    message = (
        f"'{ME}' is gated. Ask for access on {theirs.url}/{ME}, then log in with `hf auth "
        "login` or set HF_TOKEN."
    )
    assert refused_pull(tmp_path / "back") == message
    changed = tmp_path / "other"
    if token:
        # There is something to push: the card of the repository is another.
        theirs.repositories[ME].commits[-1].files["README.md"] = b"other"
        assert "does not let this token write" in refused_push(model_folder)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    push(model_folder, ME, quiet=True)
    assert pull(ME, changed, quiet=True).output == changed


def test_a_token_that_expires_during_a_pull(theirs: HubServer, tmp_path: Path) -> None:
    theirs.faults["model.safetensors"] = EXPIRED
    assert refused_pull(tmp_path / "back") == (
        f"{theirs.url} refused the token for '{ME}'. Log in again with `hf auth login`, or set "
        "HF_TOKEN anew."
    )
    before = theirs.fetched()
    theirs.faults.clear()
    pull(ME, tmp_path / "back", quiet=True)
    # What was fetched before is not fetched again.
    assert {name: count - before.get(name, 0) for name, count in theirs.fetched().items()}[
        "config.json"
    ] == 0


def test_the_list_of_models_is_not_waited_for(
    theirs: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", slept.append)
    theirs.stop()
    close_session()
    with pytest.raises(HubError, match="cannot be reached"):
        list_hub()
    assert slept == []
