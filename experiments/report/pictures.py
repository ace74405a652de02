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

PHOTOGRAPHIC = 1.4  # times the size of a lossy file: above, a lossless one is not worth its bytes
QUALITY = 90


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

        WebP without loss for lines and text, with loss for photographs; no pixel is taken away.

        Raises:
            ExperimentError: the file can't be read as an image.
        """
        try:
            with Image.open(self.path) as opened:
                image = opened.convert("RGB")
        except OSError as error:
            raise ExperimentError(f"{self.path} can't be read as an image ({error}): draw it again") from None
        lossless, lossy = _webp(image, lossless=True), _webp(image, lossless=False)
        data = lossy if len(lossless) > PHOTOGRAPHIC * len(lossy) else lossless
        return f"data:image/webp;base64,{base64.b64encode(data).decode()}", image.width, image.height


def _webp(image: Image.Image, lossless: bool) -> bytes:
    file = io.BytesIO()
    image.save(file, "WEBP", lossless=lossless, quality=100 if lossless else QUALITY, method=4)
    return file.getvalue()
