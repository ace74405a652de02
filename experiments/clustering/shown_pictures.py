"""Which rows' pictures the figures show; the others are not kept beside the committed metrics."""

from __future__ import annotations

from experiments.clustering.blocks import PAPER_PRIORS
from experiments.clustering.figures import WEIGHTED

LATENT_VERSION = "60"
_LATENT = {f"clustering/{prior}_{LATENT_VERSION}" for prior in PAPER_PRIORS}


def is_shown(row: str, name: str) -> bool:
    """Whether a figure shows a row's table of pictures.

    Args:
        row: Key of the row.
        name: ``generated`` or ``latent``.
    """
    prior = row.split("/")[-1].rpartition("_")[0]
    return row in _LATENT if name == "latent" else prior in WEIGHTED
