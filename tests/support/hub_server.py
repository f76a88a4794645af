"""A Hub on this machine: as much of the Hugging Face Hub's protocol as fetching and pushing models
takes.

    with HubServer() as hub:
        hub.add("me/model", {"config.json": b"{}"})
        hub.faults["model.safetensors"] = Fault(cut=1000)

Requests are routed by ROUTES, one function each; those that write are in hub_pushes.py. Faults
(hub_repositories.py) are named by file, or by step: info, create, preupload, lfs, commit.
"""

import hashlib
import json
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs

import hub_pushes as pushes
from hub_repositories import (
    LARGE,
    Commit,
    Fault,
    Refusal,
    Repository,
    commit_of,
    etag,
    fail,
    git_oid,
    take_time,
)


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


def resolve(hub: HubServer, request: Any, name: str, revision: str, file: str) -> None:
    """HEAD tells of a file, GET gives its bytes, or those that a Range asks for."""
    fault = hub.faults.get(file, Fault())
    take_time(fault)
    if fault.status:
        fail(fault)
    commit = commit_of(hub.repositories, request, name, revision)
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
    commit = commit_of(hub.repositories, request, name, revision)
    private = hub.repositories[name].private
    siblings = [{"rfilename": file, **entry(file, data)} for file, data in commit.files.items()]
    request.send(200, {"id": name, "sha": commit.sha, "private": private, "siblings": siblings})


def tree(hub: HubServer, request: Any, name: str, revision: str) -> None:
    """Its files with their sizes."""
    commit = commit_of(hub.repositories, request, name, revision)
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


NAME, REVISION = r"(?P<name>[\w.-]+/[\w.-]+)", r"(?P<revision>[^/]+)"
ROUTES: list[tuple[tuple[str, ...], str, Callable[..., None]]] = [
    (("GET", "HEAD"), rf"/{NAME}/resolve/{REVISION}/(?P<file>.+)", resolve),
    (("GET",), rf"/api/models/{NAME}/revision/{REVISION}", revision_info),
    (("GET",), rf"/api/models/{NAME}/tree/{REVISION}", tree),
    (("GET",), rf"/api/models/{NAME}", revision_info),
    (("GET",), "/api/models", models),
    (("POST",), "/api/repos/create", pushes.create),
    (("POST",), "/api/validate-yaml", pushes.validate),
    (("POST",), rf"/api/models/{NAME}/branch/{REVISION}", pushes.branch),
    (("POST",), rf"/api/models/{NAME}/preupload/{REVISION}", pushes.preupload),
    (("GET",), rf"/api/models/{NAME}/xet-write-token/{REVISION}", pushes.xet_token),
    (("POST",), rf"/{NAME}\.git/info/lfs/objects/batch", pushes.lfs_batch),
    (("PUT",), r"/lfs/(?P<oid>[0-9a-f]{64})", pushes.lfs_put),
    (("POST",), rf"/api/models/{NAME}/commit/{REVISION}", pushes.commit),
]
