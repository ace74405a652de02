"""Training steps as a GPU would see them: nothing is read back, and how many kernels a step takes before fusion."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from experiments.clustering.vade import Noise, VaDE
from experiments.configuration import compose, resolve
from experiments.settings import build
from experiments.weak_supervision.group_vae import Context
from tests.mvhg.test_host_is_not_asked import watched

META = torch.device("meta")
FREE = ("_unsafe_view", "_reshape_alias", "empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided")
# What a step may take at most; the loss terms, gradients and finiteness are read once a chunk.
METHODS = {"label_vae": 110, "ada_vae": 125, "hgvae": 250, "posterior_hgvae": 190}
PRIORS = {"uniform": 165, "categorical": 180, "hypergeometric": 400}
Step = Callable[[], object]


class Kernels(TorchDispatchMode):
    """Counts the ATen calls that are no views."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not function.is_view and function._schema.name.split("::")[1] not in FREE
        return function(*args, **(kwargs or {}))


def pair_step(method: str) -> tuple[torch.nn.Module, Step]:
    experiment = build(resolve(compose("experiment=weak_supervision", f"method={method}", "shared=3"))["experiment"])
    model, pairs, size = experiment.model().to(META), 4, experiment.data.image_size
    with META:
        images, noise = torch.rand(2 * pairs, 3, size, size), torch.randn(2, pairs, model.num_latents)
        context = Context(torch.empty(pairs, dtype=torch.int64), torch.tensor(2.0), None)
    return model, lambda: model.loss(*model(images, noise, context)).backward()


def digit_step(prior: str) -> tuple[torch.nn.Module, Step]:
    experiment = build(resolve(compose("experiment=clustering", f"prior={prior}", "version=full"))["experiment"])
    vade = VaDE(
        widths=experiment.pretraining.widths,
        prior=experiment.prior,
        minimum_variance=1e-4,
        initial_variance=0.1,
        generator=torch.Generator(),
    )
    clusters, latents = vade.mixture.means.shape
    vade = vade.to(META)
    with META:
        noise, images = Noise(torch.randn(128, latents), torch.randn(128, clusters)), torch.rand(128, 784)
        temperature = torch.tensor(2.0)
    return vade, lambda: (-vade.terms(images, noise, temperature)[0].elbo).backward()


@pytest.mark.parametrize("name", [*METHODS, *PRIORS])
def test_a_step_reads_nothing_back_and_takes_few_kernels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # it knows no meta device
    model, step = pair_step(name) if name in METHODS else digit_step(name)
    with watched() as reads:
        step()  # which also makes what is kept between steps
        model.zero_grad()
        with Kernels() as kernels:
            step()
    assert reads == []
    assert 50 < kernels.count <= (METHODS | PRIORS)[name]
