"""Downloads with mirrors, a progress bar, resume and checksums.

Files grow as ``<name>.part`` and take their names together, when the checksum of each was found right: a file that is
there is whole, and so is the set. A file that is there but wrong is refused, never replaced. Where no checksum was
published, the content is examined instead.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import urlsplit

import filelock
import pooch
import requests

from experiments.settings import ExperimentError

logger = logging.getLogger(__name__)

MIRROR = "MVHG_MIRROR"  # environment variable: the address of a folder that is tried before the built-in mirrors
CHUNK = 2**18  # bytes read at a time, and lost at most when a connection breaks off
ASSUMED_RATE = 5e6  # bytes per second; only for the time that is stated before


class Download(NamedTuple):
    """One file to download.

    Args:
        name: file name in the destination folder.
        urls: mirrors in the order in which they are tried.
        checksum: ``algorithm:hex digest``; the algorithm is one of hashlib's or ``git-blob``. None where none was
            published: then ``fault`` is needed.
        size: bytes; exact if ``exact_size``, else an estimate that is stated and not checked.
        exact_size: whether the size is known.
        fault: says what is wrong with a file, by its content; None if nothing is.
    """

    name: str
    urls: tuple[str, ...]
    checksum: str | None
    size: int
    exact_size: bool = True
    fault: Callable[[Path], str | None] | None = None


def part_of(path: Path) -> Path:
    """Returns where a file grows while it is downloaded."""
    return path.with_name(f"{path.name}.part")


def checksum_matches(path: Path, checksum: str) -> bool:
    """Tells whether a file has a checksum ``algorithm:hex digest``; ``git-blob`` is git's id of a file."""
    algorithm, _, digest = checksum.partition(":")
    if algorithm != "git-blob":
        return bool(pooch.file_hash(str(path), alg=algorithm) == digest)
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == digest


def download(files: Sequence[Download], directory: Path, *, title: str, alternative: str) -> None:
    """Brings the files that are not there yet into a folder. Safe when several processes ask at once.

    Args:
        files: what to bring.
        directory: destination folder; made if it is missing.
        title: the data's name in messages.
        alternative: what to do without these files, as the end of a sentence.

    Raises:
        ExperimentError: a file that is there is wrong; no mirror gave a file; the disk is full or can't be written.
    """
    if all(_present(directory / file.name, file) for file in files):
        return  # also where the folder can't be written
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(directory / ".download.lock"):
            missing = [file for file in files if not _present(directory / file.name, file)]
            _announce(missing, directory, title)
            for file in missing:
                _from_mirrors(file, directory, title, alternative)
            for file in missing:
                part_of(directory / file.name).replace(directory / file.name)
    except OSError as error:
        raise ExperimentError(f"{title} can't be written to {directory} ({error.strerror or error})") from None


def _present(path: Path, file: Download) -> bool:
    if not path.exists():
        return False
    fault = _fault(path, file) if path.is_file() else "it is no file"
    if fault is not None:
        raise ExperimentError(f"{path} is not the published file ({fault}); move it away to download it again")
    return True


def _fault(path: Path, file: Download) -> str | None:
    if file.checksum is None and file.fault is None:
        raise ValueError(f"{file.name} has no checksum and no other way to tell whether it is right")
    if file.checksum is not None and not checksum_matches(path, file.checksum):
        return f"its checksum is not {file.checksum}"
    return None if file.fault is None else file.fault(path)


def _announce(missing: Sequence[Download], directory: Path, title: str) -> None:
    if not missing:
        return
    size, free = sum(file.size for file in missing), shutil.disk_usage(directory).free
    started = sum(part.stat().st_size for part in (part_of(directory / file.name) for file in missing) if part.exists())
    if size - started > free:
        needed = readable_size(size - started)
        raise ExperimentError(f"{title} needs {needed} in {directory}, but {readable_size(free)} are free")
    seconds = max(1, round((size - started) / ASSUMED_RATE))
    time = f"{seconds} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    logger.info(
        "%s: downloading %s, %s, to %s (about %s at %s/s)",
        title, ", ".join(file.name for file in missing), readable_size(size), directory, time,
        readable_size(ASSUMED_RATE),
    )  # fmt: skip


def _from_mirrors(file: Download, directory: Path, title: str, alternative: str) -> None:
    own = os.environ.get(MIRROR)
    urls = ((f"{own.rstrip('/')}/{file.name}",) if own else ()) + file.urls
    failures: list[str] = []
    for url in urls:
        host = urlsplit(url).hostname or url
        try:
            _transfer(url, file, part_of(directory / file.name))
        except (requests.RequestException, ValueError) as error:
            failures.append(f"{host}: {_reason(error)}")
            logger.warning("%s: %s not from %s", title, file.name, failures[-1])
        else:
            return
    part = part_of(directory / file.name)
    kept = " (or start again: what has arrived is kept)" if part.exists() and part.stat().st_size else ""
    raise ExperimentError(
        f"{title} can't be downloaded: no mirror gave {file.name} ({'; '.join(failures)}). Three ways on{kept}: "
        f"put the file into {directory} by hand; name another mirror with {MIRROR}=URL-OF-A-FOLDER; {alternative}"
    )


def _transfer(url: str, file: Download, part: Path) -> None:
    """Brings one file from one mirror into its part file, continuing what is there, and checks it.

    Raises:
        requests.RequestException: the connection failed.
        ValueError: the mirror's file is another one.
    """
    if part.exists() and file.exact_size and part.stat().st_size > file.size:
        part.unlink()
    with part.open("ab") as stream:
        position = stream.tell()
        if not file.exact_size or position < file.size:
            # The published bytes are wanted: some servers offer a .gz file as a compressed form of its content.
            headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={position}-"} if position else {})
            try:
                pooch.HTTPDownloader(
                    progressbar=sys.stderr.isatty(), chunk_size=CHUNK, headers=headers,
                    hooks={"response": _Examination(file, stream, position)},
                )(url, stream, None)  # fmt: skip
            except requests.HTTPError as error:
                # No rest is left behind this position: all has arrived before, or what has is none of this file.
                status = None if error.response is None else error.response.status_code
                if not position or status != requests.codes.requested_range_not_satisfiable:
                    raise
    fault = _fault(part, file)
    if fault is not None:
        part.unlink()
        if position:  # what was there before may be to blame
            return _transfer(url, file, part)
        raise ValueError(fault)


class _Examination:
    """Looks at a response before its body is read: is it the file, and the rest of it or the whole?"""

    def __init__(self, file: Download, stream: IO[bytes], position: int) -> None:
        self.file, self.stream, self.position = file, stream, position

    def __call__(self, response: requests.Response, **_: Any) -> None:
        if response.is_redirect or not response.ok:
            return
        response.raw.headers.pop("content-encoding", None)  # see the request's headers
        partial = response.status_code == requests.codes.partial_content
        offered = response.headers.get("content-range" if partial else "content-length")
        # Where the size isn't known, the mirror's word for it is taken; the content is examined later.
        size = self.file.size if self.file.exact_size or not partial else _total_of(offered)
        expected = f"bytes {self.position}-{size - 1}/{size}" if partial else str(size)
        if offered not in (None, expected) and (self.file.exact_size or partial):
            response.close()
            raise ValueError(f"the size of what it offers is {offered}, expected {expected}")
        if not partial and offered is not None and int(offered) < self.position:
            response.close()  # a page that asks for a login, say: no reason to give up what has arrived
            raise ValueError(f"it offers {offered} bytes, fewer than have arrived")
        if not partial:
            self.stream.truncate(0)  # the mirror starts from the beginning


def _total_of(content_range: str | None) -> int:
    total = (content_range or "").rpartition("/")[2]
    return int(total) if total.isdecimal() else 0


def _reason(error: Exception) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP status {error.response.status_code}"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return (str(error).splitlines() or [type(error).__name__])[0]


def readable_size(size: float) -> str:
    """Returns a number of bytes as a message shows it."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size / 1e3:.1f} kB"
