"""Encoded pairs: what evaluation sees of a model and of the data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.weak_supervision.factors import FACTORS


@dataclass(frozen=True, eq=False)
class EncodedPairs:
    """Posterior means of pairs of images beside the truth.

    Attributes:
        means: [pairs, 2, latents], after aggregation: a shared latent has the same mean in both views.
        independent: bool [pairs, latents], which latents are independent in a pair; the others are shared.
        factors: int64 [pairs, 2, factors], the generative factors of both images, in the order of ``FACTORS``.
        shared_factors: bool [pairs, factors], which generative factors the pair shares.

    Raises:
        ValueError: there is no pair, a shape or type is wrong, a mean isn't finite, or something said to be shared
            differs between the views; the message names the field.
    """

    means: Tensor
    independent: Tensor
    factors: Tensor
    shared_factors: Tensor

    def __post_init__(self) -> None:
        if self.means.ndim != 3 or self.means.shape[1] != 2 or not self.means.is_floating_point():
            raise ValueError(f"means must be a floating tensor [pairs, 2, latents], got {_describe(self.means)}")
        pairs, _, latents = self.means.shape
        if pairs == 0:
            raise ValueError("means must hold at least one pair")
        expected = {
            "independent": (torch.bool, (pairs, latents)),
            "factors": (torch.int64, (pairs, 2, len(FACTORS))),
            "shared_factors": (torch.bool, (pairs, len(FACTORS))),
        }
        for name, (dtype, shape) in expected.items():
            value = getattr(self, name)
            if value.dtype != dtype or tuple(value.shape) != shape:
                raise ValueError(f"{name} must be {_name(dtype)} {list(shape)}, got {_describe(value)}")
        if not self.means.isfinite().all():
            raise ValueError("means must be finite")
        if (self.factors < 0).any():
            raise ValueError("factors must be indices of at least 0")
        # Straight-through masks may leave rounding errors.
        if (
            not torch.isclose(self.means[:, 0], self.means[:, 1], rtol=1e-4, atol=1e-5)
            .logical_or(self.independent)
            .all()
        ):
            raise ValueError("means of shared latents must be equal in both views")
        if (self.shared_factors & (self.factors[:, 0] != self.factors[:, 1])).any():
            raise ValueError("factors that are shared must be equal in both views")

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.means)

    @property
    def num_latents(self) -> int:
        """Number of latents, d."""
        return self.means.shape[2]

    def shared_part(self) -> Tensor:
        """Means of the shared latents, zero elsewhere, [pairs, latents]; the views agree on them."""
        return torch.where(self.independent, 0, self.means[:, 0])

    def independent_part(self, view: int) -> Tensor:
        """Means of one view's independent latents, zero elsewhere, [pairs, latents]."""
        return torch.where(self.independent, self.means[:, view], 0)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _describe(tensor: Tensor) -> str:
    return f"{_name(tensor.dtype)} {list(tensor.shape)}"
