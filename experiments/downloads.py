"""Downloads by pooch, checked before they are used.

Files arrive as ``<name>.part`` and take their names together, when each was found right: a file that is there is whole,
and so is the set. A file that is there but wrong is refused, never replaced.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import filelock
import pooch
import requests

from experiments.settings import ExperimentError

logger = logging.getLogger(__name__)


class Download(NamedTuple):
    """One file to download.

    Args:
        name: file name in the destination folder.
        urls: mirrors in the order in which they are tried.
        checksum: ``algorithm:hex digest``; the algorithm is one of hashlib's or ``git-blob``. None where none was
            published: then ``fault`` is needed.
        size: bytes, for messages.
        fault: says what is wrong with a file, by its content; None if nothing is.
    """

    name: str
    urls: tuple[str, ...]
    checksum: str | None
    size: int
    fault: Callable[[Path], str | None] | None = None


def part_of(path: Path) -> Path:
    """Returns where a file grows before it is whole."""
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
            size, free = sum(file.size for file in missing), shutil.disk_usage(directory).free
            if size > free:
                room = f"{readable_size(size)} in {directory}, but {readable_size(free)} are free"
                raise ExperimentError(f"{title} needs {room}")
            for file in missing:
                logger.info("%s: downloading %s (%s) to %s", title, file.name, readable_size(file.size), directory)
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


def _from_mirrors(file: Download, directory: Path, title: str, alternative: str) -> None:
    part, failures = part_of(directory / file.name), []
    # The published bytes are wanted: some servers offer a .gz file as a compressed form of its content.
    fetch = pooch.HTTPDownloader(sys.stderr.isatty(), headers={"Accept-Encoding": "identity"})
    for url in file.urls:
        try:
            fetch(url, str(part), None)
            reason = _fault(part, file)
        except requests.HTTPError as error:
            reason = f"HTTP status {error.response.status_code if error.response is not None else None}"
        except requests.RequestException as error:
            reason = "no connection" if type(error) is requests.ConnectionError else type(error).__name__
        if reason is None:
            return
        part.unlink(missing_ok=True)
        failures.append(f"{urlsplit(url).hostname}: {reason}")
    raise ExperimentError(
        f"{title} can't be downloaded: no mirror gave {file.name} ({'; '.join(failures)}). Put the file into "
        f"{directory} by hand, or {alternative}"
    )


def readable_size(size: float) -> str:
    """Returns a number of bytes as a message shows it."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size / 1e3:.1f} kB"
