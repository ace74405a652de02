"""Gumbel noise, of which the largest perturbed log-weight is a draw."""

import torch
from torch import Tensor


def gumbel(
    shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, generator: torch.Generator | None
) -> Tensor:
    """Gumbel noise [..., X], minus the logarithm of exponential noise."""
    if dtype == torch.float64 or device.type != "cpu":  # on an accelerator the fewer operations win
        uniform = torch.rand(shape, dtype=torch.float64, device=device, generator=generator)
        return uniform.log_().neg_().log_().neg_().to(dtype)
    # A float32 uniform has 24 bits, too few for rare counts, which are those of small exponential noise. It says which
    # of 2^24 cells a number is in; where in it only matters in the first, so one finer number serves a whole row.
    cell = torch.rand(shape, dtype=dtype, device=device, generator=generator).mul_(1 << 24).floor_()
    within = torch.rand(*shape[:-1], 1, dtype=torch.float64, device=device, generator=generator)
    uniform = cell.add_((1 - within).to(dtype)).mul_(2.0**-24)
    uniform = uniform.clamp(max=1 - 2.0**-24)  # not in place, which torch.func.vmap warns of
    return uniform.neg_().log1p_().neg_().log_().neg_()
