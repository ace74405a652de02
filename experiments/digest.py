"""A digest of what files are made from and of the files: as long as it is the same, they need not be made again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from experiments.store import file_digest

ROOT = Path(__file__).resolve().parents[1]
_SOURCES = ("experiments", "scripts", "mvhg", "results/paper.yaml", "results/benchmark")
_PACKAGES = ("matplotlib", "pandas", "numpy", "scipy")


def digest_of(paths: Iterable[Path], words: str = "") -> str:
    """Returns the hash of some folders, files and words, of the code and of the packages that draw."""
    total = hashlib.sha256(words.encode())
    for package in _PACKAGES:
        total.update(f"{package} {version(package)}\n".encode())
    for folder in [*paths, *(ROOT / source for source in _SOURCES)]:
        for path in [folder] if folder.is_file() else sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                total.update(f"{path.name} {file_digest(path)}\n".encode())
    return total.hexdigest()
