"""A digest of what files are made from, and the stamp that says what they were last made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from experiments.store import file_digest, write_atomically

ROOT = Path(__file__).resolve().parents[1]
_SOURCES = ("experiments", "scripts", "mvhg", "results/paper.yaml", "results/benchmark")
_PACKAGES = ("matplotlib", "pandas", "numpy", "scipy")


def digest_of(*folders: Path, words: str = "") -> str:
    """Returns the hash of some folders or files and words, of the code and of the packages that draw."""
    total = hashlib.sha256(words.encode())
    for package in _PACKAGES:
        total.update(f"{package} {version(package)}\n".encode())
    for folder in [*folders, *(ROOT / source for source in _SOURCES)]:
        paths = [folder] if folder.is_file() else sorted(folder.rglob("*"))
        for path in paths:
            if path.is_file() and "__pycache__" not in path.parts:
                total.update(f"{path.name} {file_digest(path)}\n".encode())
    return total.hexdigest()


class Stamp:
    """What some files were made from.

    Args:
        path: File of the stamp.
        digest: Of what they would be made from now.
    """

    def __init__(self, path: Path, digest: str) -> None:
        self.path, self.digest = path, digest

    def is_current(self) -> bool:
        """Whether they were made from the same, and are all still there as they were written."""
        try:
            stamp = json.loads(self.path.read_text())
            files = dict(stamp["files"])
            return bool(stamp["digest"] == self.digest) and all(
                file_digest(self.path.parent / name) == one for name, one in files.items()
            )
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def write(self, files: Iterable[Path]) -> None:
        """Notes that the files are made.

        Args:
            files: All of them.
        """
        hashes = {path.relative_to(self.path.parent).as_posix(): file_digest(path) for path in files if path.is_file()}
        content = {"digest": self.digest, "files": hashes}
        write_atomically(self.path, json.dumps(content, indent=1) + "\n")
