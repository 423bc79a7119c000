"""A hub on this machine: as much of its HTTP as `snapshot_download` asks for, and its bad days.

It answers with a repository's info, tree and files as the real one does: revisions resolve to commits, large files
are redirected to where they are stored, downloads can be resumed, and errors carry the hub's own codes. It offers Xet
for large files, as the real one does, and has none.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

RESOLVE = re.compile(r"^/(?:datasets/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)$")
API = re.compile(r"^/api/(?:models|datasets)/(?P<name>[^/]+/[^/?]+)(?:/(?P<what>revision|tree)/(?P<revision>[^/?]+))?")
STORED = re.compile(r"^/stored/(?P<hash>[0-9a-f]{64})$")
LARGE = (".safetensors", ".parquet", ".bin")  # what the hub keeps outside of git


@dataclass
class Fault:
    """What goes wrong with the requests whose path matches `path`, the first `times` of them.

    `kind`: a status of HTTP; `truncated`, the connection closes halfway; `stalled`, nothing comes after half of the
    body until the client gives up.
    """

    path: str
    kind: int | str
    times: int = 1_000


@contextmanager
def hub(
    repositories: Mapping[str, Path | Mapping[str, Path]],
    faults: Sequence[Fault] = (),
    gated: Sequence[str] = (),
    private: Mapping[str, str] | None = None,
) -> Iterator[tuple[str, list[str]]]:
    """Serve folders as repositories, or a folder for each revision; gives the address and the list of paths asked for.

    The files of a `gated` repository are refused to all, a `private` one is shown to its token alone.
    """
    revisions = {
        name: dict(folders) if isinstance(folders, Mapping) else {"main": folders}
        for name, folders in repositories.items()
    }
    asked: list[str] = []
    closing = Event()

    class Handler(_Handler):
        pass

    Handler.revisions, Handler.faults, Handler.asked, Handler.closing = revisions, list(faults), asked, closing
    Handler.gated, Handler.private = set(gated), dict(private or {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        closing.set()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Answers for the repositories of one hub."""

    protocol_version = "HTTP/1.1"
    revisions: Mapping[str, Mapping[str, Path]]
    faults: list[Fault]
    asked: list[str]
    closing: Event
    gated: set[str]
    private: Mapping[str, str]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.asked.append(self.path)
        fault = next((f for f in self.faults if f.times and re.search(f.path, self.path)), None)
        if fault:
            fault.times -= 1
        if fault and isinstance(fault.kind, int):
            return self.send(fault.kind, b"")
        self.way = str(fault.kind) if fault else ""
        if match := STORED.match(self.path):
            folders = (folder for revisions in self.revisions.values() for folder in revisions.values())
            file = next(file for folder in folders for file in files(folder) if sha256(file) == match["hash"])
            return self.send(200, file.read_bytes())
        match = RESOLVE.match(self.path) or API.match(self.path)
        name = match["name"] if match else ""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if match is None or name not in self.revisions or self.private.get(name, token) != token:
            return self.send(404 if token else 401, b"", {"X-Error-Code": "RepoNotFound"})
        folder = self.folder(name, match["revision"] or "main")
        if folder is None:
            return self.send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        if "path" in match.groupdict():
            return self.file(name, folder, match["path"])
        self.send(200, json.dumps(tree(folder) if match["what"] == "tree" else info(name, folder)).encode())

    def folder(self, name: str, revision: str) -> Path | None:
        """The folder of a revision, by its name or its commit."""
        folders = self.revisions[name]
        return folders.get(revision) or next((f for f in folders.values() if commit(f) == revision), None)

    def file(self, name: str, folder: Path, path: str) -> None:
        """One file of a repository; a large one by way of where it is stored."""
        file, headers = folder / path, {"X-Repo-Commit": commit(folder)}
        if name in self.gated:
            return self.send(401, b"", {"X-Error-Code": "GatedRepo"})
        if not file.is_file():
            return self.send(404, b"", headers | {"X-Error-Code": "EntryNotFound"})
        if not path.endswith(LARGE):
            return self.send(200, file.read_bytes(), headers | {"ETag": f'"{git_hash(file)}"'})
        headers |= {"X-Linked-Size": str(file.stat().st_size), "X-Linked-ETag": f'"{sha256(file)}"'}
        headers |= {"X-Xet-Hash": sha256(file), "X-Xet-Refresh-Route": f"{self.path}/xet-read-token"}
        port = self.server.server_address[1]
        self.send(302, b"", headers | {"Location": f"http://localhost:{port}/stored/{sha256(file)}"})  # another host

    def send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """An answer, or the part of it that was asked for, in the way of the request's fault."""
        start = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        further = dict(headers or {})
        if status == 200 and start:
            status, whole, body = 206, len(body), body[int(start[1]) :]
            further["Content-Range"] = f"bytes {start[1]}-{whole - 1}/{whole}"
        self.send_response(status)
        for key, value in {**further, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD" or not body:
            return
        if self.way in ("truncated", "stalled"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if self.way == "stalled":
                self.closing.wait(30)
            self.close_connection = True
            return
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def files(folder: Path) -> list[Path]:
    """All files of a repository, sorted."""
    return [file for file in sorted(folder.rglob("*")) if file.is_file()]


@cache
def sha256(file: Path) -> str:
    """What the hub calls a large file."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@cache
def git_hash(file: Path) -> str:
    """What git calls a file."""
    content = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@cache
def commit(folder: Path) -> str:
    """What stands for the commit of a folder: a hash of its files' names and contents."""
    listed = "".join(f"{file.relative_to(folder)} {sha256(file)}\n" for file in files(folder))
    return hashlib.sha1(listed.encode()).hexdigest()


def info(name: str, folder: Path) -> dict[str, Any]:
    """What the hub says of a repository."""
    siblings = [{"rfilename": file.relative_to(folder).as_posix()} for file in files(folder)]
    return {"_id": commit(folder)[:24], "id": name, "sha": commit(folder), "siblings": siblings}


def tree(folder: Path) -> list[dict[str, Any]]:
    """The files of a repository as the hub lists them."""
    entries = []
    for file in files(folder):
        size = file.stat().st_size
        entry: dict[str, Any] = {"type": "file", "path": file.relative_to(folder).as_posix(), "size": size}
        entry["oid"] = git_hash(file)
        if file.name.endswith(LARGE):
            entry["lfs"] = {"oid": sha256(file), "size": size, "pointerSize": 134}
        entries.append(entry)
    return entries
