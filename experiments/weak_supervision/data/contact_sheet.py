"""A contact sheet of the images: what each factor changes, and a random handful."""

from __future__ import annotations

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from experiments.figures import add_caption
from experiments.weak_supervision.data import scene
from experiments.weak_supervision.data.images import FactorGrid, FactorImages
from experiments.weak_supervision.data.mpi3d_factors import OLD_COLOURS, OLD_SHAPES, thinned
from experiments.weak_supervision.data.sources import FACTORS, POSITIONS

COLUMNS = 8
RANDOM_ROWS = 2
SEED = 0
TITLES = {"mpi3d_sim": "mpi3d_sim (rendered for this project; not the mpi3d images)"}


def contact_sheet(images: FactorImages) -> Figure:
    """Draws a sheet: one row per factor, in which only that factor changes, and rows of random images.

    Args:
        images: of any source and size.
    """
    grid = images.grid
    base = torch.tensor([size // 2 for size in grid.sizes])
    base[0], base[1], base[2] = min(2, grid.sizes[0] - 1), min(1, grid.sizes[1] - 1), grid.sizes[2] - 1
    names = value_names(grid)
    rows = len(FACTORS) + RANDOM_ROWS
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(COLUMNS * 0.95, rows * 1.1), layout="constrained")
    for row, factor in enumerate(FACTORS):
        values = _spread(grid.sizes[row])
        contexts = base.repeat(len(values), 1)
        contexts[:, row] = torch.tensor(values)
        titles = [names[row][value] for value in values]
        _draw_row(list(axes[row]), images.gather(grid.index_of(contexts)), titles)
        _label(axes[row, 0], factor.replace("_", "\n"))
    generator = torch.Generator().manual_seed(SEED)
    for row in range(len(FACTORS), rows):
        index = torch.randint(grid.num_images, (COLUMNS,), generator=generator)
        _draw_row(list(axes[row]), images.gather(index), [""] * COLUMNS)
        _label(axes[row, 0], "random")
    size = images.images.shape[1]
    source = TITLES.get(images.name, images.name)
    sizes = " x ".join(map(str, grid.sizes))
    text = f"{source}: {grid.num_images:,} images of {size}x{size} pixels, {sizes}. In each named row, only that factor"
    add_caption(figure, f"{text} changes.")
    return figure


def value_names(grid: FactorGrid) -> list[list[str]]:
    """Names each value of each factor; positions of an axis by their number among 40."""
    colours, shapes = list(scene.COLOURS), list(scene.SHAPES)
    if grid.sizes[0] == len(OLD_COLOURS):
        colours = [colours[value] for value in OLD_COLOURS]
        shapes = [shapes[value] for value in OLD_SHAPES]
    axes = [[str(position) for position in thinned(POSITIONS, size)] for size in grid.sizes[-2:]]
    return [colours, shapes, list(scene.SIZES), list(scene.CAMERA_ELEVATIONS), list(scene.BACKGROUNDS), *axes]


def _spread(size: int) -> list[int]:
    """Returns at most a row of values, from the first to the last."""
    count = min(size, COLUMNS)
    return [round(place * (size - 1) / max(count - 1, 1)) for place in range(count)]


def _draw_row(axes: list[Axes], images: Tensor, titles: list[str]) -> None:
    for one in axes:
        one.set_axis_off()
    for one, image, title in zip(axes, images, titles):
        one.imshow(image.numpy(), interpolation="nearest")
        one.set_title(title, fontsize=7, pad=2)


def _label(axes: Axes, text: str) -> None:
    axes.text(-0.15, 0.5, text, transform=axes.transAxes, ha="right", va="center", fontsize=8)
