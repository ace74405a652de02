"""The scores of disentanglement_lib: its import, known answers, and the grid that it samples from."""

from __future__ import annotations

import importlib.util
import logging
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from experiments.disentanglement import scores
from experiments.disentanglement.scores import GridRepresentations, disentanglement_scores
from experiments.disentanglement.shims import load_metrics
from experiments.weak_supervision.data.images import FactorGrid
from experiments.weak_supervision.data.sources import FACTORS
from tests.experiments.helpers import CHECKOUT, environment

INSTALLED = importlib.util.find_spec("disentanglement_lib") is not None
needs_the_extra = pytest.mark.skipif(
    not INSTALLED, reason="disentanglement_lib is not installed: pip install -e '.[disentanglement]'"
)
GRID = FactorGrid(FACTORS, (3, 4, 2, 3, 3, 4, 4))
SCORES = ["beta_vae", "factor_vae", "mig", "sap", "modularity"]
SCORES += ["dci_disentanglement", "dci_completeness", "dci_informativeness"]
Integers = npt.NDArray[np.int64]


def all_factors() -> Tensor:
    return GRID.factors_of(torch.arange(GRID.num_images))


def score(
    means: Tensor, *, grid: FactorGrid = GRID, seed: int = 0, samples: int = 2000, dci: int = 400
) -> dict[str, float]:
    table = disentanglement_scores(GridRepresentations(grid, means), seed=seed, num_samples=samples, dci_samples=dci)
    return dict(zip(table["score"], table["value"], strict=True))


class IdentityData:
    """The library's dummy data, whose observations are the factors; it draws as NumPy's ``random_integers`` did."""

    num_factors = 10

    def sample_factors(self, num: int, random_state: np.random.RandomState) -> Integers:
        return random_state.randint(1, 11, size=(num, 10))

    def sample_observations_from_factors(self, factors: Integers, random_state: np.random.RandomState) -> Integers:
        return factors

    def sample(self, num: int, random_state: np.random.RandomState) -> tuple[Integers, Integers]:
        return (factors := self.sample_factors(num, random_state)), factors

    sample_observations = sample_factors


def identity(observations: Integers) -> npt.NDArray[np.float64]:
    return observations.astype(np.float64)


# (module, function, settings, {score: what the library gave beside its own TensorFlow})
ALL = {"num_train": 3000, "num_test": 3000}
IDENTITY: list[tuple[str, str, dict[str, Any], dict[str, float]]] = [
    ("mig", "mig", {"num_train": 3000}, {"discrete_mig": 0.992159}),
    ("sap_score", "sap", ALL | {"continuous_factors": True}, {"SAP_score": 0.99907}),
    ("sap_score", "sap", {"num_train": 1000, "num_test": 500, "continuous_factors": False}, {"SAP_score": 0.2118}),
    (
        "factor_vae",
        "factor_vae",
        {"batch_size": 5, "num_train": 3000, "num_eval": 2000, "num_variance_estimate": 2500},
        {"eval_accuracy": 0.9995},
    ),
    (
        "beta_vae",
        "beta_vae_sklearn",
        {"batch_size": 5, "num_train": 2000, "num_eval": 2000},
        {"eval_accuracy": 1.0},
    ),
    ("modularity_explicitness", "modularity_explicitness", ALL, {"modularity_score": 0.999959}),
    ("dci", "dci", {"num_train": 1000, "num_test": 1000}, dict.fromkeys(scores.DCI, 1.0)),
]


@needs_the_extra
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("module", "function", "settings", "expected"), IDENTITY)
def test_the_identity_scores_what_it_did_beside_tensorflow(
    module: str, function: str, settings: dict[str, Any], expected: dict[str, float]
) -> None:
    """On the library's dummy data with seed 0; the numbers are the same on two stacks."""
    compute = getattr(getattr(load_metrics(), module), f"compute_{function}")
    before = np.random.get_state()
    found = compute(IdentityData(), identity, np.random.RandomState(0), **settings)
    np.random.set_state(before)  # scikit-learn's trees draw from it
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-5)


@needs_the_extra
def test_a_latent_per_factor_scores_high_and_a_rotation_of_it_lower() -> None:
    factors = all_factors().double()
    one_each = torch.cat([factors, torch.zeros(len(factors), 3)], 1)
    high = score(one_each)
    assert list(high) == SCORES
    assert all(high[name] > 0.97 for name in SCORES if name not in ("sap", "modularity"))
    # A latent that carries nothing counts as not modular: seven of ten.
    assert high["modularity"] == pytest.approx(0.7, abs=0.01)
    # SAP takes the accuracy from a linear classifier on one latent, which can't tell values in the middle from others.
    assert high["sap"] > 0.3
    scaled = (factors - factors.mean(0)) / factors.std(0)
    rotation = torch.linalg.qr(torch.randn(7, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0]
    mixed = score(scaled @ rotation)
    for name in ("factor_vae", "mig", "sap", "dci_disentanglement", "dci_completeness"):
        assert mixed[name] < high[name] - 0.1, name


@needs_the_extra
def test_noise_scores_nothing() -> None:
    """A standard error is 0.013 at most, of an accuracy of 1,000 examples: chance passes 0.06 once in 10^5."""
    # Large: images that are drawn twice would be recognised by their noise.
    grid = FactorGrid(FACTORS, (6, 6, 2, 3, 3, 8, 8))
    low = score(torch.randn(grid.num_images, 5, generator=torch.Generator().manual_seed(0)), grid=grid)
    for name in ("mig", "sap", "dci_disentanglement", "dci_completeness"):
        assert low[name] < 0.06, name
    assert low["dci_informativeness"] == pytest.approx(np.mean([1 / size for size in grid.sizes]), abs=0.06)
    for name in ("beta_vae", "factor_vae"):  # which of seven factors is fixed
        assert low[name] == pytest.approx(1 / 7, abs=0.06)


@needs_the_extra
def test_a_constant_representation_is_scored_without_a_crash() -> None:
    constant = score(torch.zeros(GRID.num_images, 3), samples=200, dci=50)
    assert all(np.isfinite(list(constant.values())))
    for name in ("factor_vae", "mig", "sap", "modularity"):
        assert constant[name] == 0


@needs_the_extra
def test_modularity_is_the_one_that_the_library_computes_beside_explicitness() -> None:
    mixing = torch.randn(7, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    data = GridRepresentations(GRID, all_factors().double() @ mixing)
    metrics = load_metrics()
    ours = scores.modularity(metrics, data, data.represent, np.random.RandomState(0), 1000)
    theirs = metrics.modularity_explicitness.compute_modularity_explicitness(
        data, data.represent, np.random.RandomState(0), num_train=1000, num_test=500
    )
    assert 0.1 < ours["modularity_score"] < 0.99
    assert ours["modularity_score"] == theirs["modularity_score"]


@needs_the_extra
def test_a_seed_decides_everything_and_numpys_state_is_left_alone() -> None:
    factors = all_factors().double()
    # Two latents that say the same: the trees choose between them by NumPy's global state.
    means = torch.cat([factors, factors[:, :2]], 1)
    before = np.random.get_state()
    first = score(means, samples=100, dci=60)
    after = np.random.get_state()
    assert before[2:] == after[2:] and np.array_equal(before[1], after[1])
    np.random.random()
    assert score(means, samples=100, dci=60) == first
    np.random.set_state(before)
    other = score(means, seed=1, samples=100, dci=60)
    assert any(other[name] != first[name] for name in SCORES)


@needs_the_extra
def test_the_library_logs_nothing_and_every_score_says_what_it_took(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        score(all_factors().double(), samples=50, dci=20)
    messages = [record.getMessage() for record in caplog.records]
    assert [message.split(":")[0] for message in messages] == [
        *(f"  {name}" for name in SCORES[:5]),
        f"  {', '.join(SCORES[5:])}",
    ]
    assert {record.name for record in caplog.records} == {"experiments"}


@needs_the_extra
def test_tensorflow_is_not_imported_and_gin_is_left_as_it_was() -> None:
    code = """
        import sys
        import gin
        configurable = gin.configurable
        from experiments.disentanglement.shims import load_metrics
        assert load_metrics() is load_metrics()
        assert not {"tensorflow", "gin.tf"} & set(sys.modules)
        assert gin.configurable is configurable
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    run = subprocess.run(command, cwd=CHECKOUT, env=environment(), capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr


def test_the_numbers_of_images_are_the_grids_and_factors_are_uniform() -> None:
    means = all_factors().double()
    data = GridRepresentations(GRID, means)
    assert data.num_factors == 7
    factors, observations = data.sample(20_000, np.random.RandomState(0))
    assert factors.dtype == np.int64
    assert np.array_equal(GRID.index_of(torch.from_numpy(factors)).numpy(), observations)
    assert np.array_equal(data.represent(observations), factors)
    for position, size in enumerate(GRID.sizes):
        counts = np.bincount(factors[:, position], minlength=size)
        # Six standard deviations: fails once in 10^8; a share off by 0.02 is seen.
        assert counts == pytest.approx(20_000 / size, abs=6 * np.sqrt(20_000 / size * (1 - 1 / size)))


@pytest.mark.parametrize(
    ("sizes", "means", "message"),
    [
        (GRID.sizes, torch.zeros(5, 3), r"means must be \[3456, latents\], two at least, got \[5, 3\]"),
        (GRID.sizes, torch.zeros(3456, 1), r"two at least, got \[3456, 1\]"),
        (GRID.sizes, torch.full((3456, 2), np.nan), "means must be finite"),
        ((3, 1, 2, 1, 3, 4, 4), torch.zeros(288, 3), "two values to be told apart, but not so shape, camera_height"),
    ],
)
def test_an_unfit_representation_is_refused(sizes: tuple[int, ...], means: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GridRepresentations(FactorGrid(FACTORS, sizes), means)
