"""Downloads by pooch, with mirrors, a progress bar, resume and checksums.

Files grow as ``<name>.part`` and take their names together, when each was found right: a file that is there is whole,
and so is the set. A file that is there but wrong is refused, never replaced.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import urlsplit

import filelock
import pooch
import requests

from experiments.settings import ExperimentError

logger = logging.getLogger(__name__)

MIRROR = "MVHG_MIRROR"  # environment variable: the address of a folder that is tried before the built-in mirrors
CHUNK = 2**18  # bytes read at a time, and lost at most when a connection breaks off
TRIES = 3  # of one mirror, when the connection breaks off
_REASONS = (
    (requests.Timeout, "no answer in time"),
    (requests.exceptions.ChunkedEncodingError, "the connection broke off"),
    (requests.ConnectionError, "no connection"),
)


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
            if missing:
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
    assert file.checksum is not None or file.fault is not None, f"{file.name}: no way to tell whether it is right"
    if file.checksum is not None and not checksum_matches(path, file.checksum):
        return f"its checksum is not {file.checksum}"
    return None if file.fault is None else file.fault(path)


def checksum_matches(path: Path, checksum: str) -> bool:
    """Tells whether a file has a checksum ``algorithm:hex digest``; ``git-blob`` is git's id of a file."""
    algorithm, _, digest = checksum.partition(":")
    if algorithm != "git-blob":
        return bool(pooch.file_hash(str(path), alg=algorithm) == digest)
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == digest


def _announce(missing: Sequence[Download], directory: Path, title: str) -> None:
    parts = [part for part in (part_of(directory / file.name) for file in missing) if part.exists()]
    size = sum(file.size for file in missing) - sum(part.stat().st_size for part in parts)
    free = shutil.disk_usage(directory).free
    if size > free:
        raise ExperimentError(f"{title} needs {readable_size(size)} in {directory}, but {readable_size(free)} are free")
    names = ", ".join(file.name for file in missing)
    logger.info("%s: downloading %s, %s, to %s", title, names, readable_size(max(size, 0)), directory)


def _from_mirrors(file: Download, directory: Path, title: str, alternative: str) -> None:
    own = os.environ.get(MIRROR)
    urls = ((f"{own.rstrip('/')}/{file.name}",) if own else ()) + file.urls
    part, failures = part_of(directory / file.name), []
    for url in urls:
        try:
            _transfer(url, file, part, TRIES)
            return
        except (requests.RequestException, ValueError) as error:
            failures.append(f"{urlsplit(url).hostname or url}: {_reason(error)}")
            logger.warning("%s: %s not from %s", title, file.name, failures[-1])
    kept = " (or start again: what has arrived is kept)" if part.exists() and part.stat().st_size else ""
    raise ExperimentError(
        f"{title} can't be downloaded: no mirror gave {file.name} ({'; '.join(failures)}). Three ways on{kept}: "
        f"put the file into {directory} by hand; name another mirror with {MIRROR}=URL-OF-A-FOLDER; {alternative}"
    )


def _reason(error: Exception) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP status {error.response.status_code}"
    words = (str(error).splitlines() or [type(error).__name__])[0]
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), words)


def _transfer(url: str, file: Download, part: Path, tries: int) -> None:
    """Brings one file from one mirror into its part file, continuing what is there, and checks it.

    Raises:
        requests.RequestException: the connection failed.
        ValueError: the mirror's file is another one.
    """
    with part.open("ab") as stream:
        position = stream.tell()
        # The published bytes are wanted: some servers offer a .gz file as a compressed form of its content.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={position}-"} if position else {})
        examine = {"response": lambda response, **_: _examine(response, file, stream, position)}
        fetch = pooch.HTTPDownloader(sys.stderr.isatty(), CHUNK, headers=headers, hooks=examine)
        try:
            fetch(url, stream, None)
        except requests.exceptions.ChunkedEncodingError:
            if tries == 1:
                raise
            stream.flush()
            return _transfer(url, file, part, tries - 1)
        except requests.HTTPError as error:
            status = None if error.response is None else error.response.status_code
            if not position or status != requests.codes.requested_range_not_satisfiable:
                raise  # otherwise all has arrived before, or what has is none of this file
    fault = _fault(part, file)
    if fault is None:
        return
    part.unlink()
    if not position:
        raise ValueError(fault)
    _transfer(url, file, part, tries)  # what was there before may be to blame


def _examine(response: requests.Response, file: Download, stream: IO[bytes], position: int) -> None:
    """Looks at a response before its body is read: a page in place of the file costs nothing that has arrived."""
    if response.is_redirect or not response.ok:
        return
    response.raw.headers.pop("content-encoding", None)
    partial = response.status_code == requests.codes.partial_content
    offered = int(response.headers.get("content-length", -1))
    expected = file.size - position if partial else file.size
    if offered >= 0 and ((file.exact_size and offered != expected) or (not partial and offered < position)):
        response.close()
        raise ValueError(f"it offers {offered} bytes, not the {expected} that are missing")
    if not partial:
        stream.truncate(0)  # the mirror starts from the beginning


def readable_size(size: float) -> str:
    """Returns a number of bytes as a message shows it."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size / 1e3:.1f} kB"
