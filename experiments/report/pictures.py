"""Committed figures, made small enough to travel inside the page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from PIL import Image

from experiments.results import Provenance
from experiments.settings import ExperimentError


@dataclass(frozen=True)
class Picture:
    """A figure of the results folder.

    Attributes:
        path: The PNG.
        caption: What it shows; the page's caption and the image's alternative text.
        provenance: Of what it shows.
    """

    kind: ClassVar[str] = "picture"
    path: Path
    caption: str
    provenance: Provenance

    def embedded(self) -> tuple[str, int, int]:
        """Returns a data URI, the width and the height in pixels.

        WebP without loss: half of the PNG's bytes, and no pixel is changed.

        Raises:
            ExperimentError: the file can't be read as an image.
        """
        file = io.BytesIO()
        try:
            with Image.open(self.path) as opened:
                opened.convert("RGB").save(file, "WEBP", lossless=True)
                width, height = opened.size
        except OSError as error:
            raise ExperimentError(f"{self.path} can't be read as an image ({error}): draw it again") from None
        return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}", width, height
