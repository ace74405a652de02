"""Prints what a training step asks of a GPU, method by method and prior by prior, on the pretended device.

A process of its own: torch takes a new device only before its first backward pass.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import torch
from experiments.speed.pretended_device import pretend, watched
from torch import Tensor, nn
from torch.func import functional_call

from experiments.clustering.vade import Noise, VaDE
from experiments.configuration import compose, resolve
from experiments.settings import build
from experiments.weak_supervision.group_vae import Context

METHODS = ("label_vae", "ada_vae", "hgvae")
PRIORS = ("uniform", "categorical", "hypergeometric")


class Step(nn.Module):
    """A model with the loss of a step."""

    def __init__(self, model: Any, loss: Callable[..., Tensor]) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, *inputs: Any) -> Tensor:
        return self.loss(self.model, *inputs)


class DeviceGenerator(torch.Generator):
    """Says that it is on the pretended device."""

    @property
    def device(self) -> torch.device:
        return pretend(torch.zeros(())).device


def counted(step: Step, *inputs: Any) -> dict[str, Any]:
    with watched() as seen:
        state = {name: pretend(value) for name, value in step.state_dict(keep_vars=True).items()}
        for name, _ in step.named_parameters():
            state[name].requires_grad_(True)
        state |= {name: pretend(value) for name, value in step.named_buffers()}
        inputs = tuple(pretend(value) if isinstance(value, Tensor) else value for value in inputs)
        seen.calls.clear()
        seen.waits.clear()
        functional_call(step, state, inputs).backward()
        return {"kernels": seen.kernels, "waits": dict(seen.waits)}


def pair_step(method: str) -> dict[str, Any]:
    plain = resolve(compose("experiment=weak_supervision", f"method={method}", "shared=3"))
    experiment = build(plain["experiment"])
    pairs, latents, size = 4, experiment.model().num_latents, experiment.data.image_size

    def loss(model: Any, images: Tensor, noise: Tensor, label: Tensor, temperature: Tensor) -> Tensor:
        terms, choice = model(images, noise, Context(label, temperature, DeviceGenerator()))
        result: Tensor = model.loss(terms, choice)
        return result

    inputs = torch.rand(2 * pairs, 3, size, size), torch.randn(2, pairs, latents), torch.randint(7, (pairs,))
    return counted(Step(experiment.model(), loss), *inputs, torch.tensor(2.0))


def digit_step(prior: str) -> dict[str, Any]:
    plain = resolve(compose("experiment=clustering", f"prior={prior}", "version=full"))
    experiment = build(plain["experiment"])
    widths = experiment.pretraining.widths
    vade = VaDE(
        widths=widths, prior=experiment.prior, minimum_variance=1e-4, initial_variance=0.1, generator=torch.Generator()
    )
    digits, (clusters, latents) = 128, vade.mixture.means.shape

    def loss(model: Any, images: Tensor, latent: Tensor, gumbel: Tensor, temperature: Tensor) -> Tensor:
        terms = model.terms(images, Noise(latent, gumbel), temperature)
        return -terms.elbo

    inputs = torch.rand(digits, 784), torch.randn(digits, latents), torch.randn(digits, clusters)
    return counted(Step(vade, loss), *inputs, torch.tensor(2.0))


if __name__ == "__main__":
    found = {method: pair_step(method) for method in METHODS} | {prior: digit_step(prior) for prior in PRIORS}
    print(json.dumps(found), flush=True)
    os._exit(0)  # the thread that torch starts for the device would not end
