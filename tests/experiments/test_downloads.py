"""Downloads: mirrors in order, checksums, and one clear line where nothing works. A local server answers."""

from __future__ import annotations

import hashlib
import logging
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from experiments.downloads import Download, checksum_matches, download
from experiments.settings import ExperimentError

CONTENT = bytes(range(256)) * 4000
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
ANSWERS: dict[str, tuple[int, bytes, dict[str, str]]] = {
    "good": (200, CONTENT, {}),
    "absent": (404, b"", {}),
    "page": (200, b"<html>please log in</html>", {}),
    "moved": (302, b"", {"Location": "/good/file"}),
    "altered": (200, CONTENT[:-1] + b"\x01", {}),
    "broken": (200, CONTENT[:1000], {"Content-Length": str(len(CONTENT))}),  # the connection ends early
}


class Server(ThreadingHTTPServer):
    """Answers by the first part of the path and keeps a log of the paths."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.paths: list[str] = []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.paths.append(self.path)  # type: ignore[attr-defined]
        status, body, headers = ANSWERS[self.path.split("/")[1]]
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch(
    server: Server, directory: Path, *paths: str, checksum: str | None = MD5,
    fault: Callable[[Path], str | None] | None = None,
) -> Path:  # fmt: skip
    file = Download("file.gz", tuple(server.url(path) for path in paths), checksum, len(CONTENT), fault)
    download([file], directory, title="Sample", alternative="take something else")
    return directory / file.name


def test_mirrors_are_tried_in_order_until_one_gives_the_published_file(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "file.gz.part").write_bytes(b"of a download that was stopped")
    path = fetch(server, tmp_path, "absent/1", "page/2", "altered/3", "broken/4", "moved/5", "good/6")
    assert path.read_bytes() == CONTENT
    assert server.paths == ["/absent/1", "/page/2", "/altered/3", "/broken/4", "/moved/5", "/good/file"]
    assert {one.name for one in tmp_path.iterdir()} <= {path.name, ".download.lock"}
    assert f"Sample: downloading file.gz (1.0 MB) to {tmp_path}" in caplog.messages


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("absent", "HTTP status 404"), ("altered", f"its checksum is not {MD5}"), ("broken", "ChunkedEncodingError")],
)
def test_no_mirror_is_one_line_and_leaves_nothing(server: Server, tmp_path: Path, kind: str, reason: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        fetch(server, tmp_path, f"{kind}/file")
    assert str(caught.value) == (
        f"Sample can't be downloaded: no mirror gave file.gz (127.0.0.1: {reason}). Put the file into {tmp_path} by "
        "hand, or take something else"
    )
    assert not list(tmp_path.glob("file*"))


def test_without_a_network_one_line_says_so(server: Server, tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as closed:
        nobody = f"http://127.0.0.1:{closed.server_port}/file.gz"
    with pytest.raises(ExperimentError, match=r"no mirror gave file.gz \(127.0.0.1: no connection\)"):
        download([Download("file.gz", (nobody,), MD5, 10)], tmp_path, title="Sample", alternative="take another")


def test_without_a_checksum_the_content_is_examined(server: Server, tmp_path: Path) -> None:
    def fault(path: Path) -> str | None:
        return None if path.read_bytes()[-1:] == b"\xff" else "it ends in the wrong way"

    with pytest.raises(ExperimentError, match=r"no mirror gave file.gz \(127.0.0.1: it ends in the wrong way\)"):
        fetch(server, tmp_path, "altered/file", checksum=None, fault=fault)
    assert fetch(server, tmp_path, "good/file", checksum=None, fault=fault).read_bytes() == CONTENT
    with pytest.raises(AssertionError, match="no way to tell whether it is right"):
        fetch(server, tmp_path, "good/file", checksum=None)


def test_a_file_that_is_there_is_taken_or_refused_without_a_request(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.gz").write_bytes(CONTENT)
    fetch(server, tmp_path, "good/file")
    assert list(tmp_path.iterdir()) == [tmp_path / "file.gz"]  # a folder that can't be written would do
    (tmp_path / "file.gz").write_bytes(CONTENT[:-1])
    with pytest.raises(ExperimentError, match=r"file.gz is not the published file .*move it away"):
        fetch(server, tmp_path, "good/file")
    assert (tmp_path / "file.gz").read_bytes() == CONTENT[:-1]
    assert not server.paths


def test_several_files_take_their_names_together(server: Server, tmp_path: Path) -> None:
    files = [Download(name, (server.url(f"{name}/x"),), MD5, len(CONTENT)) for name in ("good", "absent")]
    with pytest.raises(ExperimentError, match=r"no mirror gave absent \(127.0.0.1: HTTP status 404\)"):
        download(files, tmp_path, title="Sample", alternative="take something else")
    assert not (tmp_path / "good").exists()
    files[1] = files[1]._replace(urls=(server.url("good/x"),))
    download(files, tmp_path, title="Sample", alternative="take something else")
    assert (tmp_path / "good").read_bytes() == (tmp_path / "absent").read_bytes() == CONTENT


def test_several_processes_at_once_load_once(server: Server, tmp_path: Path) -> None:
    threads = [threading.Thread(target=fetch, args=(server, tmp_path, "good/file")) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "file.gz").read_bytes() == CONTENT
    assert len(server.paths) == 1


def test_a_disk_without_room_and_a_folder_that_cannot_be_made_are_noticed_before(
    server: Server, tmp_path: Path
) -> None:
    file = Download("file.gz", (server.url("good/file"),), MD5, 10**18)
    with pytest.raises(ExperimentError, match=r"Sample needs 1000000000.0 GB in .*, but .* are free"):
        download([file], tmp_path, title="Sample", alternative="take something else")
    (tmp_path / "file").touch()
    with pytest.raises(ExperimentError, match=r"Sample can't be written to .*/file/folder \(Not a directory\)"):
        fetch(server, tmp_path / "file" / "folder", "good/file")
    assert not server.paths


def test_the_git_checksum_is_the_one_of_git(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    known = subprocess.run(["git", "hash-object", str(path)], capture_output=True, text=True, check=True).stdout.strip()
    assert checksum_matches(path, f"git-blob:{known}")
    path.write_bytes(CONTENT + b"\n")
    assert not checksum_matches(path, f"git-blob:{known}")
