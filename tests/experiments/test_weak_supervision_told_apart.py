"""Latents told apart, of an encoder whose latents hold known factors."""

from __future__ import annotations

import math
from typing import cast

import pandas as pd
import pytest
import torch
from torch import Tensor

from experiments.weak_supervision import told_apart
from experiments.weak_supervision.blocks import count_of_held
from experiments.weak_supervision.data.pairs import PairSampler
from experiments.weak_supervision.group_vae import GroupVAE
from tests.experiments.weak_supervision_fits import generator, make_images

IMAGES = make_images()
PAIRS = 2000


class KnownEncoder:
    """Latents that hold factor 0, both factors 1 and 2, factor 3 with posteriors just too wide, and nothing."""

    def encode_pairs(self, index: Tensor) -> tuple[Tensor, Tensor]:
        factors = IMAGES.grid.factors_of(index).unflatten(0, (2, -1)).float()
        held = [factors[..., 0], factors[..., 1] + 0.37 * factors[..., 2], factors[..., 3], 0 * factors[..., 0]]
        deviations = torch.tensor([1 / 2.01, 1e-3, 1 / 1.99, 1.0])  # of the difference; values are 1 or more apart
        log_variance = (deviations.square() / 2).log()
        return torch.stack(held, -1), log_variance.expand(*factors.shape[:2], 4)


@pytest.mark.parametrize("shared", [1, 3, 5])
def test_latents_are_counted_whose_factors_differ(monkeypatch: pytest.MonkeyPatch, shared: int) -> None:
    monkeypatch.setattr(told_apart, "load_batch", lambda images, index, device: index.flatten())
    sampler = PairSampler(IMAGES.grid, torch.arange(IMAGES.grid.num_images), shared)
    model = cast(GroupVAE, KnownEncoder())
    found = told_apart.told_apart_columns(model, IMAGES, sampler, PAIRS, generator())
    assert found["told_apart_unshared"] == 2  # the latents of 0 and of 1 and 2
    one = 1 - shared / 7
    either = 1 - math.comb(5, shared - 2) / math.comb(7, shared) if shared > 1 else 1.0
    # Six standard deviations of a mean of numbers in 0..2: fails by chance with 2e-9, finds a twentieth of a latent.
    assert found["told_apart"] == pytest.approx(one + either, abs=6 / math.sqrt(PAIRS) / 2)
    held = count_of_held(pd.DataFrame([found]), 7)
    assert held.item() == pytest.approx(7 * found["told_apart"] / 2)


def test_where_no_latent_holds_a_factor_there_is_no_count() -> None:
    nothing_held = pd.DataFrame({"told_apart": [0.0], "told_apart_unshared": [0.0]})
    assert count_of_held(nothing_held, 7).isna().all()
