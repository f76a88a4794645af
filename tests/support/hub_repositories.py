"""What the Hub of hub_server.py holds, what may go wrong with it, and how it refuses."""

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

TOKEN, WEAK_TOKEN = "hf_right", "hf_weak"
LARGE = (".safetensors", ".bin")


class Commit(NamedTuple):
    sha: str
    files: dict[str, bytes]
    branch: str = "main"


@dataclass
class Repository:
    """A model repository, all its commits, the newest last."""

    commits: list[Commit] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    """Further names of commits, to their sha."""
    private: bool = False
    """Whether it is shown only to those who send TOKEN."""
    gated: bool = False
    """Whether its files are refused to all but TOKEN; what there is may be seen."""

    def commit(self, revision: str) -> Commit | None:
        if revision == "main":
            return next(commit for commit in reversed(self.commits) if commit.branch == "main")
        sha = self.tags.get(revision, revision)
        return next((commit for commit in self.commits if commit.sha == sha), None)


@dataclass
class Fault:
    """What goes wrong with a file when its bytes are asked for, as often as `times` says."""

    cut: int | None = None
    """The connection breaks after so many bytes."""
    changed: bool = False
    """The first byte is another one."""
    status: int | None = None
    """The answer, instead of 200; to questions as well."""
    headers: dict[str, str] = field(default_factory=dict)
    """Sent with `status`."""
    seconds: float = 0.0
    """How long the answer takes."""
    times: int = 1000


class Refusal(Exception):
    """An answer that is an error; the Hub says which in a header."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.headers: dict[str, str] = {"X-Error-Code": code} if code else {}
        if message:
            self.headers["X-Error-Message"] = message


def commit_of(
    repositories: Mapping[str, Repository], request: Any, name: str, revision: str
) -> Commit:
    """What was asked for, where it is there and whoever asks may see it."""
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if token not in ("", TOKEN, WEAK_TOKEN):
        raise Refusal(401, message="Invalid credentials in Authorization header")
    repository = repositories.get(name)
    if repository is None or (repository.private and token != TOKEN):
        raise Refusal(401, "RepoNotFound")
    if repository.gated and token != TOKEN and "/resolve/" in request.path:
        raise Refusal(403, "GatedRepo")
    commit = repository.commit(revision.replace("%2F", "/"))
    if commit is None:
        raise Refusal(404, "RevisionNotFound")
    return commit


def take_time(fault: Fault) -> None:
    """No sleep(), which tests replace."""
    threading.Event().wait(fault.seconds)


def fail(fault: Fault) -> None:
    refusal = Refusal(fault.status or 500)
    refusal.headers |= fault.headers
    raise refusal


def etag(file: str, data: bytes) -> str:
    """sha256 of large files, git's own sum of others."""
    return hashlib.sha256(data).hexdigest() if file.endswith(LARGE) else git_oid(data)


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
