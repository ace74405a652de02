"""What a trained model's decoder makes of test pairs and of moved latents: a picture each, as a line of a table."""

from __future__ import annotations

import base64
import io

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.image import imread, imsave

from experiments.figures import add_caption
from experiments.settings import ExperimentError
from experiments.weak_supervision.blocks import Block, label

TABLE = "pictures"
PICTURED_SHARED = 3  # s of the runs whose pictures are collected
VALUES = tuple(-2 + 4 * step / 6 for step in range(7))  # of a moved latent, prior standard deviations
CAPTIONS = {
    "reconstructions": "Pairs of test images above what the decoder makes of their posterior means; a shared latent "
    "has the same mean in both views",
    "traversals": "A test image decoded with one latent at a time moved from -2 to 2 prior standard deviations, "
    "the others kept; the five latents that carry most",
}
MOST_ROWS = 5  # of a picture that a figure shows, as the caption says
_JPEG = {"quality": 90, "subsampling": 0, "optimize": True}  # a quarter of a PNG; by eye there is no difference
Images = npt.NDArray[np.uint8]


def picture_table(pictures: dict[str, Images]) -> pd.DataFrame:
    """A line per picture.

    Args:
        pictures: by kind, uint8 [rows, columns, height, width, 3].

    Returns:
        ``kind``, ``rows``, ``columns`` and ``jpeg``: all its images in one, base64.
    """
    lines = []
    for kind, images in pictures.items():
        rows, columns, height, width, _ = images.shape
        file = io.BytesIO()
        tiled = images.swapaxes(1, 2).reshape(rows * height, columns * width, 3)
        imsave(file, tiled, format="jpeg", pil_kwargs=_JPEG)
        lines.append((kind, rows, columns, base64.b64encode(file.getvalue()).decode()))
    return pd.DataFrame(lines, columns=["kind", "rows", "columns", "jpeg"])


def figure_pictures(block: Block, kind: str) -> Figure:
    """The picture of every method, of its lowest seed.

    Raises:
        ExperimentError: there is none.
    """
    table = block.table(TABLE)
    table = table[table["kind"] == kind]
    methods = [method for method in block.methods if (table["method"] == method).any()]
    if not methods:
        raise ExperimentError(f"the metrics hold no {kind} at {block.source}")
    columns = 2 if len(methods) == 4 else min(3, len(methods))
    rows = -(-len(methods) // columns)
    height = 1.3 if kind == "reconstructions" else 2.3
    figure, axes = plt.subplots(rows, columns, figsize=(3.9 * columns, height * rows + 0.5), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, method in zip(axes.flat, methods):
        line = table[table["method"] == method].sort_values("seed").iloc[0]
        image = imread(io.BytesIO(base64.b64decode(line["jpeg"])), format="jpeg")
        shown = min(MOST_ROWS, line["rows"]) * len(image) // line["rows"]
        ax.imshow(image[:shown], interpolation="nearest")
        ax.set_title(label(method), fontsize=9)
    shared = ", ".join(str(one) for one in sorted(table["shared"].unique()))
    add_caption(figure, f"{CAPTIONS[kind]}. s = {shared}; lowest seed with a picture. {block.described(table)}")
    return figure
