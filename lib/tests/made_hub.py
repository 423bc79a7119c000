"""A hub on this machine: as much of its HTTP as `snapshot_download` asks for."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILE = re.compile(r"^/(?:(datasets)/)?(?P<name>[^/]+/[^/]+)/resolve/[^/]+/(?P<path>.+)$")
INFO = re.compile(r"^/api/(models|datasets)/(?P<name>[^/]+/[^/]+)(/(?P<what>revision|tree)/[^/?]+)?")


@contextmanager
def hub(repositories: dict[str, Path]) -> Iterator[tuple[str, list[str]]]:
    """Serve folders as repositories; gives the address and the list of the paths asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            asked.append(self.path)
            if (match := FILE.match(self.path)) and match["name"] in repositories:
                file = repositories[match["name"]] / match["path"]
                return self.answer(file.read_bytes() if file.is_file() else None)
            if (match := INFO.match(self.path)) and match["name"] in repositories:
                folder = repositories[match["name"]]
                files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
                names = [str(file.relative_to(folder)) for file in files]
                if match["what"] == "tree":
                    content: Any = [
                        {"type": "file", "path": name, "oid": name_hash(name), "size": file.stat().st_size}
                        for name, file in zip(names, files, strict=True)
                    ]
                else:
                    content = {"id": match["name"], "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]}
                return self.answer(json.dumps(content).encode())
            return self.answer(None)

        def answer(self, body: bytes | None) -> None:
            self.send_response(200 if body is not None else 404)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha1(body or b"").hexdigest()}"')
            self.send_header("Content-Length", str(len(body or b"")))
            if body is None:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()
            if body and self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def name_hash(name: str) -> str:
    """What stands for a git object's name."""
    return hashlib.sha1(name.encode()).hexdigest()
