"""Several seeds at once: the weights of S models in one tensor per layer, the bound mapped over them by torch.func."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from experiments.clustering.vade import Noise, Terms, VaDE


class _Bound(nn.Module):
    """The terms as a module's call, the only thing that functional_call replaces the weights of."""

    def __init__(self, vade: VaDE) -> None:
        super().__init__()
        self.vade = vade

    def forward(self, images: Tensor, noise: Noise, temperature: Tensor) -> Terms:
        return self.vade.terms(images, noise, temperature)


class StackedVaDE:
    """S models of equal shape that are trained together; each has its own weights, digits and noise.

    Args:
        models: of the same network and prior, on one device.
    """

    def __init__(self, models: Sequence[VaDE]) -> None:
        bounds = [_Bound(model) for model in models]
        # {name: [S, ...]}; the stacked parameters are leaves with a gradient of their own.
        self.parameters, self.buffers = stack_module_state(bounds)
        self._bound = bounds[0]

    def terms(self, images: Tensor, noise: Noise, temperature: Tensor) -> Terms:
        """The terms of every model, [S] each.

        Args:
            images: [S, batch, pixels] in [0, 1].
            noise: [S, batch, latent] and [S, batch, clusters].
            temperature: of the Gumbel-softmax, a scalar.
        """

        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor, noise: Noise) -> Terms:
            return functional_call(self._bound, (parameters, buffers), (images, noise, temperature))

        return vmap(one)(self.parameters, self.buffers, images, noise)

    def draw_noise(self, batch_size: int, generators: Sequence[torch.Generator]) -> Noise:
        """Each model's noise from its own generator, as if it were trained alone."""
        draws = (self._bound.vade.draw_noise(batch_size, generator) for generator in generators)
        return Noise(*(torch.stack(values) for values in zip(*draws)))
