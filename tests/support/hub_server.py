"""A Hub on this machine: as much of the Hugging Face Hub's protocol as fetching and pushing models
takes.

    with HubServer() as hub:
        hub.add("me/model", {"config.json": b"{}"})
        hub.faults["model.safetensors"] = Fault(cut=1000)

Requests are routed by ROUTES, one function each. Faults are named by file, or by step: info,
create, preupload, lfs, commit.
"""

import base64
import hashlib
import json
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs

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


class HubServer:
    """Runs in a thread of its own while it is entered."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.faults: dict[str, Fault] = {}
        """By name of file."""
        self.requests: list[tuple[str, str, str]] = []
        """Method, path, and Range or an empty string; of every request so far."""
        self.uploaded: dict[str, bytes] = {}
        """Large files by their sha256."""
        self.xet: Path | None = None
        """The folder that xet writes to, which never sends the bytes here."""
        self.before_commit: Callable[[], object] | None = None
        """Called when a commit comes in, before it is looked at."""

    def add(
        self,
        name: str,
        files: Mapping[str, bytes] | Path,
        tag: str = "",
        *,
        private: bool = False,
        gated: bool = False,
    ) -> str:
        """A commit with these files alone, to a repository that is made if need be; its sha."""
        if isinstance(files, Path):
            files = {path.name: path.read_bytes() for path in files.iterdir()}
        repository = self.repositories.setdefault(name, Repository(private=private, gated=gated))
        sha = hashlib.sha1(f"{name} {len(repository.commits)}".encode()).hexdigest()
        repository.commits.append(Commit(sha, dict(files)))
        if tag:
            repository.tags[tag] = sha
        return sha

    def fetched(self) -> dict[str, int]:
        """How often the bytes of each file were asked for."""
        counts: dict[str, int] = defaultdict(int)
        for method, path, _ in self.requests:
            if method == "GET" and "/resolve/" in path:
                counts[path.rpartition("/")[2]] += 1
        return dict(counts)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """From now on there is no connection."""
        self._server.shutdown()
        self._server.server_close()


class Refusal(Exception):
    """An answer that is an error; the Hub says which in a header."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.headers: dict[str, str] = {"X-Error-Code": code} if code else {}
        if message:
            self.headers["X-Error-Message"] = message


def _handler(hub: HubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            hub.requests.append((self.command, self.path, self.headers.get("Range", "")))
            self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            try:
                for method, pattern, route in ROUTES:
                    if self.command in method and (
                        match := re.fullmatch(pattern, self.path.partition("?")[0])
                    ):
                        route(hub, self, **match.groupdict())
                        return
                raise Refusal(404)
            except Refusal as refusal:
                self.send(refusal.status, {"error": str(refusal)}, refusal.headers)

        do_GET = do_HEAD = do_POST = do_PUT = answer  # noqa: N815  http.server wants these names

        def send(self, status: int, content: Any, headers: Mapping[str, str] | None = None) -> None:
            """JSON, or bytes as they are."""
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | dict(headers or {})).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def commit_of(hub: HubServer, request: Any, name: str, revision: str) -> Commit:
    """What was asked for, where it is there and whoever asks may see it."""
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if token not in ("", TOKEN, WEAK_TOKEN):
        raise Refusal(401, message="Invalid credentials in Authorization header")
    repository = hub.repositories.get(name)
    if repository is None or (repository.private and token != TOKEN):
        raise Refusal(401, "RepoNotFound")
    if repository.gated and token != TOKEN and "/resolve/" in request.path:
        raise Refusal(403, "GatedRepo")
    commit = repository.commit(revision.replace("%2F", "/"))
    if commit is None:
        raise Refusal(404, "RevisionNotFound")
    return commit


def resolve(hub: HubServer, request: Any, name: str, revision: str, file: str) -> None:
    """HEAD tells of a file, GET gives its bytes, or those that a Range asks for."""
    fault = hub.faults.get(file, Fault())
    take_time(fault)
    if fault.status:
        fail(fault)
    commit = commit_of(hub, request, name, revision)
    if file not in commit.files:
        raise Refusal(404, "EntryNotFound")
    data = commit.files[file]
    headers = {
        "X-Repo-Commit": commit.sha,
        "ETag": f'"{etag(file, data)}"',
        "Accept-Ranges": "bytes",
    }
    start = int(re.sub(r"bytes=(\d+)-.*", r"\1", request.headers.get("Range", "bytes=0-")))
    if start:
        headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
    sent = data[start:]
    if request.command == "GET" and fault.times:
        fault.times -= 1
        if fault.changed:
            sent = bytes([sent[0] ^ 1]) + sent[1:]
        if fault.cut is not None:
            headers["Content-Length"] = str(len(sent))
            request.close_connection = True
            sent = sent[: fault.cut]
    request.send(206 if start else 200, sent, headers)


def revision_info(hub: HubServer, request: Any, name: str, revision: str = "main") -> None:
    """What a repository holds."""
    take_time(hub.faults.get("info", Fault()))
    commit = commit_of(hub, request, name, revision)
    private = hub.repositories[name].private
    siblings = [{"rfilename": file, **entry(file, data)} for file, data in commit.files.items()]
    request.send(200, {"id": name, "sha": commit.sha, "private": private, "siblings": siblings})


def tree(hub: HubServer, request: Any, name: str, revision: str) -> None:
    """Its files with their sizes."""
    commit = commit_of(hub, request, name, revision)
    request.send(
        200,
        [
            {"type": "file", "path": file, **entry(file, data)}
            for file, data in commit.files.items()
        ],
    )


def entry(file: str, data: bytes) -> dict[str, Any]:
    """Size and sums of a file, under the names that the listing of a tree and that of a revision
    have for them.
    """
    about: dict[str, Any] = {"size": len(data), "oid": git_oid(data), "blobId": git_oid(data)}
    if file.endswith(LARGE):
        about["lfs"] = {
            "oid": etag(file, data),
            "sha256": etag(file, data),
            "size": len(data),
            "pointerSize": 130,
        }
    return about


def models(hub: HubServer, request: Any) -> None:
    """Those with a tag and a word in their names."""
    asked = parse_qs(request.path.partition("?")[2])
    tag, word = asked.get("filter", [""])[0], asked.get("search", [""])[0]
    found = [
        {"id": name, "downloads": 3, "tags": [tag]}
        for name, repository in hub.repositories.items()
        if word in name
        and f"- {tag}".encode() in repository.commits[-1].files.get("README.md", b"")
    ]
    request.send(200, found)


def take_time(fault: Fault) -> None:
    """No sleep(), which tests replace."""
    threading.Event().wait(fault.seconds)


def fail(fault: Fault) -> None:
    refusal = Refusal(fault.status or 500)
    refusal.headers |= fault.headers
    raise refusal


def check_writer(hub: HubServer, request: Any, step: str) -> None:
    """Refuse whoever may not write, and do what the faults say of this step."""
    fault = hub.faults.get(step, Fault(times=0))
    take_time(fault)
    if fault.times and fault.status:
        fault.times -= 1
        fail(fault)
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if token != TOKEN:
        raise Refusal(
            403 if token == WEAK_TOKEN else 401,
            message=("Invalid credentials in Authorization header"),
        )


def create(hub: HubServer, request: Any) -> None:
    check_writer(hub, request, "create")
    asked = json.loads(request.body)
    name = f"{asked.get('organization') or 'me'}/{asked['name']}"
    address = {"url": f"{hub.url}/{name}"}
    if name in hub.repositories:
        request.send(409, address | {"error": "You already created this model repo"})
        return
    hub.add(
        name,
        {".gitattributes": b"*.safetensors filter=lfs\n"},
        private=asked.get("visibility") == "private",
    )
    request.send(200, address)


def branch(hub: HubServer, request: Any, name: str, revision: str) -> None:
    check_writer(hub, request, "branch")
    hub.repositories[name].tags[revision] = commit_of(hub, request, name, "main").sha
    request.send(200, {})


def validate(hub: HubServer, request: Any) -> None:
    request.send(200, {"warnings": [], "errors": []})


def preupload(hub: HubServer, request: Any, name: str, revision: str) -> None:
    check_writer(hub, request, "preupload")
    files = json.loads(request.body)["files"]
    modes = [("lfs" if file["path"].endswith(LARGE) else "regular", file["path"]) for file in files]
    request.send(
        200,
        {
            "files": [
                {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": None}
                for mode, path in modes
            ]
        },
    )


def lfs_batch(hub: HubServer, request: Any, name: str) -> None:
    check_writer(hub, request, "lfs-batch")
    answers = []
    for item in json.loads(request.body)["objects"]:
        answer = {"oid": item["oid"], "size": item["size"]}
        if item["oid"] not in hub.uploaded:
            answer["actions"] = {"upload": {"href": f"{hub.url}/lfs/{item['oid']}"}}
        answers.append(answer)
    request.send(200, {"objects": answers})


def xet_token(hub: HubServer, request: Any, name: str, revision: str) -> None:
    check_writer(hub, request, "xet")
    if hub.xet is None:
        raise Refusal(404)
    request.send(200, {"casUrl": f"local://{hub.xet}", "accessToken": "xet", "exp": 4_000_000_000})


def lfs_put(hub: HubServer, request: Any, oid: str) -> None:
    fault = hub.faults.get("lfs", Fault(times=0))
    if fault.times:
        fault.times -= 1
        if fault.status:
            fail(fault)
        # Without an answer the client sees a broken connection.
        request.close_connection = True
        return
    if hashlib.sha256(request.body).hexdigest() != oid:
        raise Refusal(400, message="other bytes than announced")
    hub.uploaded[oid] = request.body
    request.send(200, {})


def commit(hub: HubServer, request: Any, name: str, revision: str) -> None:
    """All of it or nothing, on top of the commit that it names."""
    if hub.before_commit:
        moved, hub.before_commit = hub.before_commit, None
        moved()
    check_writer(hub, request, "commit")
    revision = revision.replace("%2F", "/")
    parent = commit_of(hub, request, name, revision)
    lines = [json.loads(line) for line in request.body.splitlines()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    if header.get("parentCommit") not in (None, parent.sha):
        raise Refusal(412, message="A commit has happened since. Please refresh and try again.")
    files = dict(parent.files)
    for line in lines:
        value = line["value"]
        match line["key"]:
            case "file":
                files[value["path"]] = base64.b64decode(value["content"])
            case "lfsFile":
                files[value["path"]] = b"" if hub.xet else hub.uploaded[value["oid"]]
            case "deletedFile":
                del files[value["path"]]
    request_number = "create_pr=1" in request.path
    branch_name = "refs/pr/1" if request_number else revision
    repository = hub.repositories[name]
    sha = hashlib.sha1(f"{name} {len(repository.commits)}".encode()).hexdigest()
    repository.commits.append(Commit(sha, files, branch_name))
    repository.tags[branch_name] = sha
    if hub.faults.get("commit", Fault()).cut is not None:
        request.close_connection = True
        return
    answer = {"commitOid": sha, "commitUrl": f"{hub.url}/{name}/commit/{sha}"}
    if request_number:
        answer["pullRequestUrl"] = f"{hub.url}/{name}/discussions/1"
    request.send(200, answer)


def etag(file: str, data: bytes) -> str:
    """sha256 of large files, git's own sum of others."""
    return hashlib.sha256(data).hexdigest() if file.endswith(LARGE) else git_oid(data)


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


NAME, REVISION = r"(?P<name>[\w.-]+/[\w.-]+)", r"(?P<revision>[^/]+)"
ROUTES: list[tuple[tuple[str, ...], str, Callable[..., None]]] = [
    (("GET", "HEAD"), rf"/{NAME}/resolve/{REVISION}/(?P<file>.+)", resolve),
    (("GET",), rf"/api/models/{NAME}/revision/{REVISION}", revision_info),
    (("GET",), rf"/api/models/{NAME}/tree/{REVISION}", tree),
    (("GET",), rf"/api/models/{NAME}", revision_info),
    (("GET",), "/api/models", models),
    (("POST",), "/api/repos/create", create),
    (("POST",), "/api/validate-yaml", validate),
    (("POST",), rf"/api/models/{NAME}/branch/{REVISION}", branch),
    (("POST",), rf"/api/models/{NAME}/preupload/{REVISION}", preupload),
    (("GET",), rf"/api/models/{NAME}/xet-write-token/{REVISION}", xet_token),
    (("POST",), rf"/{NAME}\.git/info/lfs/objects/batch", lfs_batch),
    (("PUT",), r"/lfs/(?P<oid>[0-9a-f]{64})", lfs_put),
    (("POST",), rf"/api/models/{NAME}/commit/{REVISION}", commit),
]
