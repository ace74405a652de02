"""Which pictures of the runs are kept beside the committed metrics, and how: few, and small."""

from __future__ import annotations

import base64
import io

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.image import imread, imsave

from experiments.weak_supervision.traversals import PIXELS, unpack

RECONSTRUCTED, RECONSTRUCTED_SHARED = ("label_vae", "ada_vae", "hgvae", "evidence_hgvae"), (1, 5)
TRAVERSED, TRAVERSED_SHARED = ("hgvae", "evidence_hgvae"), 3
TRAVERSED_LATENTS = 7  # the most active
_ROWS = {
    "reconstructions": {f"weak_supervision/{method}_s{s}" for method in RECONSTRUCTED for s in RECONSTRUCTED_SHARED},
    "traversals": {f"weak_supervision/{method}_s{TRAVERSED_SHARED}" for method in TRAVERSED},
}
_JPEG = {"quality": 90, "subsampling": 0, "optimize": True}  # a quarter of a PNG; by eye there is no difference


def kept_pictures(row: str, name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Keeps what the figures show of a run's pictures.

    Args:
        row: Key of the run's row.
        name: ``traversals`` or ``reconstructions``.
        table: As the run wrote it.

    Returns:
        The lines that are shown, with a column ``jpeg`` (base64) for the pixels; none for most rows.
    """
    if row not in _ROWS[name]:
        return table.iloc[:0]
    if name == "traversals":
        table = table[table["rank"] < TRAVERSED_LATENTS]
    pictures = [base64.b64encode(_to_jpeg(image)).decode() for image in unpack(table)]
    return table.drop(columns=PIXELS).assign(jpeg=pictures)


def _to_jpeg(image: npt.NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    imsave(file, image, format="jpeg", pil_kwargs=_JPEG)
    return file.getvalue()


def read_pictures(table: pd.DataFrame) -> npt.NDArray[np.uint8]:
    """Reads the kept pictures back, uint8 [lines, height, width, 3]."""
    return np.stack([imread(io.BytesIO(base64.b64decode(text)), format="jpeg") for text in table["jpeg"]])
