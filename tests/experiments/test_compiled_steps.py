"""Whole training steps as one graph of torch.compile: none breaks it, temperatures share it, results are the loop's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.backends.debugging import aot_eager

from experiments.clustering.vade import Noise, VaDE
from experiments.configuration import compose, resolve
from experiments.settings import build
from tests.experiments.weak_supervision_fits import RecordedTraining, fit, generator, make_training

# The compiler's own warnings are not the project's.
pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("default")]
METHODS: list[tuple[str, dict[str, Any]]] = [
    ("label_vae", {}),
    ("ada_vae", {}),
    ("hgvae", {}),
    ("hgvae", {"selection": "random_partition"}),
    ("hgvae", {"gradient": "score_function"}),
    ("posterior_hgvae", {}),
]


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Compiles to the operators as they are, and collects the sizes of the graphs."""
    made: list[int] = []

    def backend(module: Any, inputs: Any) -> Any:
        made.append(len(module.graph.nodes))
        return aot_eager(module, inputs)

    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **settings: compiled(function, backend=backend, **settings))
    torch.compiler.reset()
    return made


@pytest.mark.parametrize(
    ("method", "settings"),
    METHODS,
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values())) or "plain",
)
def test_a_compiled_step_is_one_graph_for_all_temperatures_and_the_loops_step(
    method: str, settings: dict[str, Any], graphs: list[int]
) -> None:
    def trained(compiled: bool) -> RecordedTraining:
        training = make_training(method, model=settings, steps=6, epoch_steps=6, chunk_steps=3, compile=True)
        if not compiled:
            training.loss_of = training._loss_of
        fit(training)
        return training

    one, other = trained(True), trained(False)
    assert len(graphs) == 1
    temperatures = one.term("temperature")
    assert len(set(temperatures)) == 6
    torch.testing.assert_close(torch.tensor(one.recorded), torch.tensor(other.recorded), rtol=1e-4, atol=1e-5)
    for first, second in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("prior", ["uniform", "categorical", "hypergeometric"])
def test_the_terms_of_vade_are_one_graph_for_all_temperatures(prior: str, graphs: list[int]) -> None:
    experiment = build(resolve(compose("experiment=clustering", f"prior={prior}", "version=full"))["experiment"])
    vade = VaDE(
        widths=experiment.pretraining.widths,
        prior=experiment.prior,
        minimum_variance=1e-4,
        initial_variance=0.1,
        generator=generator(),
    )
    images = torch.rand(16, 784, generator=generator(1))
    noise: Noise = vade.draw_noise(16, generator(2))

    def loss(images: Tensor, noise: Noise, temperature: Tensor) -> Tensor:
        return vade.terms(images, noise, temperature)[0].elbo

    def gradients(function: Callable[..., Tensor], temperature: float) -> tuple[Tensor, ...]:
        value = function(images, noise, torch.tensor(temperature))
        return value.detach(), *torch.autograd.grad(value, list(vade.parameters()), allow_unused=True)

    compiled = torch.compile(loss, fullgraph=True)
    for temperature in (1.0, 0.3):
        for found, expected in zip(gradients(compiled, temperature), gradients(loss, temperature), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)
    assert len(graphs) == 1
