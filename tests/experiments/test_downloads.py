"""Downloads: mirrors in order, resume, checksums, and one clear line where nothing works. A local server answers."""

from __future__ import annotations

import gzip
import hashlib
import logging
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from experiments import downloads
from experiments.downloads import Download, checksum_matches, download, part_of
from experiments.settings import ExperimentError

CONTENT = gzip.compress(bytes(range(256)) * 40, mtime=0) + bytes(3_000_000)  # several chunks
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


class Server(ThreadingHTTPServer):
    """Answers ``/good/...`` with CONTENT in various ways and keeps a log of (path, Range header)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str | None]] = []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        kind = self.path.split("/")[1]
        self.server.requests.append((self.path, wanted))  # type: ignore[attr-defined]
        if kind == "absent":
            return self.answer(404, b"")
        if kind == "page":
            return self.answer(200, b"<html>please log in</html>")
        if kind == "moved":
            return self.answer(302, b"", {"Location": "/good/file"})
        if kind == "altered":
            return self.answer(200, CONTENT[:-1] + b"\x01")
        if kind == "broken":  # the connection ends after two thirds
            return self.answer(200, CONTENT[: len(CONTENT) * 2 // 3], {"Content-Length": str(len(CONTENT))})
        if kind == "encoded":  # as some servers label .gz files
            return self.answer(200, CONTENT, {"Content-Encoding": "x-gzip"})
        if kind == "good" and wanted:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(CONTENT):
                return self.answer(416, b"", {"Content-Range": f"bytes */{len(CONTENT)}"})
            span = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
            return self.answer(206, CONTENT[start:], {"Content-Range": span})
        return self.answer(200, CONTENT)  # "whole": a server without ranges

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv(downloads.MIRROR, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch(
    server: Server, directory: Path, *paths: str, checksum: str | None = MD5, exact_size: bool = True,
    fault: Callable[[Path], str | None] | None = None,
) -> Path:  # fmt: skip
    urls = tuple(server.url(path) for path in paths)
    file = Download("file.gz", urls, checksum, len(CONTENT), exact_size, fault)
    download([file], directory, title="Sample", alternative="take something else")
    return directory / file.name


@pytest.mark.parametrize("exact_size", [True, False])
@pytest.mark.parametrize(
    ("there", "kind"),
    [
        *((b"", kind) for kind in ("good", "whole", "moved", "encoded")),
        (CONTENT[:1000], "good"),
        (CONTENT[:1000], "whole"),  # a mirror without ranges starts over
        *((wrong, "good") for wrong in (b"something else", bytes(len(CONTENT)), bytes(len(CONTENT) + 5))),
        (CONTENT, "good"),
    ],
)
def test_the_file_arrives_byte_for_byte_whatever_arrived_before(
    server: Server, tmp_path: Path, there: bytes, kind: str, exact_size: bool
) -> None:
    part = part_of(tmp_path / "file.gz")
    if there:
        part.write_bytes(there)
    path = fetch(server, tmp_path, f"{kind}/file", exact_size=exact_size)
    assert path.read_bytes() == CONTENT
    assert not part.exists()
    assert server.requests[0] == (f"/{kind}/file", f"bytes={len(there)}-" if there else None)
    assert there not in (CONTENT, CONTENT[:1000]) or len(server.requests) == 1


def test_mirrors_are_tried_in_order_until_one_gives_the_published_file(server: Server, tmp_path: Path) -> None:
    path = fetch(server, tmp_path, "absent/1", "page/2", "altered/3", "good/4", "good/5")
    assert path.read_bytes() == CONTENT
    assert [path for path, _ in server.requests] == ["/absent/1", "/page/2", "/altered/3", "/good/4"]


def test_the_users_mirror_comes_first(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(downloads.MIRROR, server.url("good/mine/"))
    fetch(server, tmp_path, "good/other")
    assert [path for path, _ in server.requests] == ["/good/mine/file.gz"]


@pytest.mark.parametrize("exact_size", [True, False])
def test_a_connection_that_breaks_off_is_tried_again_and_the_download_continues(
    server: Server, tmp_path: Path, exact_size: bool
) -> None:
    with pytest.raises(ExperimentError, match=r"the connection broke off.* start again: what has arrived is kept"):
        fetch(server, tmp_path, "broken/file", exact_size=exact_size)
    assert [path for path, _ in server.requests] == downloads.TRIES * ["/broken/file"]
    part = part_of(tmp_path / "file.gz")
    position = part.stat().st_size
    assert 0 < position < len(CONTENT) and not (tmp_path / "file.gz").exists()
    assert fetch(server, tmp_path, "good/file", exact_size=exact_size).read_bytes() == CONTENT
    assert server.requests[-1] == ("/good/file", f"bytes={position}-")


@pytest.mark.parametrize("exact_size", [True, False])
def test_a_page_instead_of_the_file_does_not_cost_what_is_there(
    server: Server, tmp_path: Path, exact_size: bool
) -> None:
    part_of(tmp_path / "file.gz").write_bytes(CONTENT[:1000])
    with pytest.raises(ExperimentError, match="it offers 26 bytes, not the"):
        fetch(server, tmp_path, "page/file", exact_size=exact_size)
    assert part_of(tmp_path / "file.gz").read_bytes() == CONTENT[:1000]


def test_without_a_checksum_the_content_is_examined(server: Server, tmp_path: Path) -> None:
    def fault(path: Path) -> str | None:
        return None if path.read_bytes()[-1:] == b"\0" else "it does not end in zero"

    with pytest.raises(ExperimentError, match=r"no mirror gave file.gz \(127.0.0.1: it does not end in zero\)"):
        fetch(server, tmp_path, "altered/file", checksum=None, fault=fault)
    assert fetch(server, tmp_path, "good/file", checksum=None, fault=fault).read_bytes() == CONTENT
    (tmp_path / "file.gz").write_bytes(b"1")
    with pytest.raises(ExperimentError, match=r"not the published file \(it does not end in zero\); move it"):
        fetch(server, tmp_path, "good/file", checksum=None, fault=fault)
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
    assert not server.requests


def test_several_files_take_their_names_together(server: Server, tmp_path: Path) -> None:
    files = [Download(name, (server.url(f"{name}/x"),), MD5, len(CONTENT)) for name in ("good", "absent")]
    with pytest.raises(ExperimentError, match=r"no mirror gave absent \(127.0.0.1: HTTP status 404\)"):
        download(files, tmp_path, title="Sample", alternative="take something else")
    assert part_of(tmp_path / "good").read_bytes() == CONTENT and not (tmp_path / "good").exists()
    asked = len(server.requests)
    files[1] = files[1]._replace(urls=(server.url("good/x"),))
    download(files, tmp_path, title="Sample", alternative="take something else")
    assert (tmp_path / "good").read_bytes() == (tmp_path / "absent").read_bytes() == CONTENT
    assert server.requests[asked:] == [("/good/x", f"bytes={len(CONTENT)}-"), ("/good/x", None)]


def test_several_processes_at_once_load_once(server: Server, tmp_path: Path) -> None:
    threads = [threading.Thread(target=fetch, args=(server, tmp_path, "good/file")) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "file.gz").read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_no_network_is_one_line_with_three_ways_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    closed = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    closed.server_close()
    file = Download("file.gz", (f"http://127.0.0.1:{closed.server_port}/file.gz",), MD5, 10)
    with pytest.raises(ExperimentError) as caught:
        download([file], tmp_path, title="Sample", alternative="take something else")
    assert str(caught.value) == (
        "Sample can't be downloaded: no mirror gave file.gz (127.0.0.1: no connection). Three ways on: "
        f"put the file into {tmp_path} by hand; name another mirror with MVHG_MIRROR=URL-OF-A-FOLDER; "
        "take something else"
    )


def test_the_size_is_stated_and_a_terminal_shows_a_progress_bar(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO)
    fetch(server, tmp_path / "log", "good/file")
    assert caplog.messages == [f"Sample: downloading file.gz, 3.0 MB, to {tmp_path / 'log'}"]
    assert not capsys.readouterr().err
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert fetch(server, tmp_path / "terminal", "good/file").read_bytes() == CONTENT
    assert "100%" in capsys.readouterr().err


def test_a_disk_without_room_and_a_folder_that_cannot_be_made_are_noticed_before(
    server: Server, tmp_path: Path
) -> None:
    file = Download("file.gz", (server.url("good/file"),), MD5, 10**18)
    with pytest.raises(ExperimentError, match=r"Sample needs 1000000000.0 GB in .*, but .* are free"):
        download([file], tmp_path, title="Sample", alternative="take something else")
    (tmp_path / "file").touch()
    with pytest.raises(ExperimentError, match=r"Sample can't be written to .*/file/folder \(Not a directory\)"):
        fetch(server, tmp_path / "file" / "folder", "good/file")
    assert not server.requests


def test_the_git_checksum_is_the_one_of_git(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    known = subprocess.run(["git", "hash-object", str(path)], capture_output=True, text=True, check=True).stdout.strip()
    assert checksum_matches(path, f"git-blob:{known}")
    path.write_bytes(CONTENT + b"\n")
    assert not checksum_matches(path, f"git-blob:{known}")
