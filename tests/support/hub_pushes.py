"""The routes of hub_server.py that write: a repository, its branches, large files, commits."""

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

from hub_repositories import (
    LARGE,
    TOKEN,
    WEAK_TOKEN,
    Commit,
    Fault,
    Refusal,
    commit_of,
    fail,
    take_time,
)

if TYPE_CHECKING:  # it imports this module
    from hub_server import HubServer


def check_writer(hub: "HubServer", request: Any, step: str) -> None:
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
            message="Invalid credentials in Authorization header",
        )


def create(hub: "HubServer", request: Any) -> None:
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


def branch(hub: "HubServer", request: Any, name: str, revision: str) -> None:
    check_writer(hub, request, "branch")
    hub.repositories[name].tags[revision] = commit_of(hub.repositories, request, name, "main").sha
    request.send(200, {})


def validate(hub: "HubServer", request: Any) -> None:
    request.send(200, {"warnings": [], "errors": []})


def preupload(hub: "HubServer", request: Any, name: str, revision: str) -> None:
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


def lfs_batch(hub: "HubServer", request: Any, name: str) -> None:
    check_writer(hub, request, "lfs-batch")
    answers = []
    for item in json.loads(request.body)["objects"]:
        answer = {"oid": item["oid"], "size": item["size"]}
        if item["oid"] not in hub.uploaded:
            answer["actions"] = {"upload": {"href": f"{hub.url}/lfs/{item['oid']}"}}
        answers.append(answer)
    request.send(200, {"objects": answers})


def xet_token(hub: "HubServer", request: Any, name: str, revision: str) -> None:
    check_writer(hub, request, "xet")
    if hub.xet is None:
        raise Refusal(404)
    request.send(200, {"casUrl": f"local://{hub.xet}", "accessToken": "xet", "exp": 4_000_000_000})


def lfs_put(hub: "HubServer", request: Any, oid: str) -> None:
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


def commit(hub: "HubServer", request: Any, name: str, revision: str) -> None:
    """All of it or nothing, on top of the commit that it names."""
    if hub.before_commit:
        moved, hub.before_commit = hub.before_commit, None
        moved()
    check_writer(hub, request, "commit")
    revision = revision.replace("%2F", "/")
    parent = commit_of(hub.repositories, request, name, revision)
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
