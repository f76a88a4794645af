"""Shared by the tests of the Hub: somebody who may write."""

import pytest
from hub_repositories import TOKEN
from hub_server import HubServer
from huggingface_hub import constants


@pytest.fixture
def writer(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a token; large files go by LFS, since the Hub here has no xet; the client's retries do
    not sleep.
    """
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
