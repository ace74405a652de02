"""The benchmark of the training: both sides compute the same, the clock sees what it should, the report is whole."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from experiments.benchmark.laps import Laps
from experiments.benchmark.sides import Skipped
from experiments.clustering.benchmark import report, sides
from experiments.clustering.benchmark.configured import INITIAL_VARIANCE, MINIMUM_VARIANCE, Configured
from experiments.clustering.benchmark.plain import PlainVaDE
from experiments.clustering.benchmark.profile import (
    ADAM,
    BACKWARD,
    BETWEEN,
    FORWARD,
    PARTS,
    PRIOR,
    prior_alone,
    profile,
)
from experiments.clustering.benchmark.run import PLAIN, PROJECT, Benchmark, check
from experiments.clustering.benchmark.settings import PRIORS, Settings
from experiments.clustering.benchmark.stacked import StackedVaDE
from experiments.clustering.vade import Noise, VaDE
from experiments.common.errors import ExperimentError
from experiments.common.tracking import Tracker
from scripts import benchmark_clustering


@pytest.fixture(autouse=True)
def deterministic_mode_put_back() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    yield
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def random_vade(prior: str, seed: int) -> VaDE:
    """Weights and prior away from their initial values, some variances below their minimum."""
    vade = Configured.read(Settings.quick(prior)).vade(seed)
    generator = torch.Generator().manual_seed(100 + seed)
    with torch.no_grad():
        for parameter in vade.parameters():
            parameter.add_(0.3 * torch.empty_like(parameter).normal_(generator=generator))
        vade.mixture.raw_log_variances[:, 0] = -20.0
    return vade


def batch(settings: Settings, vade: VaDE, seed: int) -> tuple[Tensor, Noise]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(settings.batch_size, settings.widths[0], generator=generator)
    return images, vade.draw_noise(settings.batch_size, generator)


def plain_twin(vade: VaDE, settings: Settings) -> tuple[PlainVaDE, dict[str, str]]:
    """The plain loop's model with the same weights, and the name there of every weight here."""
    plain = PlainVaDE(settings.widths, settings.clusters, settings.prior, MINIMUM_VARIANCE, INITIAL_VARIANCE)
    names = {"mixture.means": "centres", "mixture.raw_log_variances": "spreads"}
    names |= {"prior.logits": "log_weights", "prior.raw_log_weights": "log_weights"}
    depth = len(settings.widths) - 1
    for kind in ("weight", "bias"):
        names[f"log_variance.{kind}"] = f"to_log_variance.{kind}"
        names[f"autoencoder.encoder.{depth - 1}.{kind}"] = f"to_mean.{kind}"
        for layer in range(depth):
            names[f"autoencoder.decoder.{layer}.{kind}"] = f"decoder.{2 * layer}.{kind}"
            if layer < depth - 1:
                names[f"autoencoder.encoder.{layer}.{kind}"] = f"encoder.{2 * layer}.{kind}"
    weights = dict(vade.named_parameters())
    plain.load_state_dict({names[name]: weight for name, weight in weights.items()})  # strict: every one, no other
    return plain, {name: names[name] for name in weights}


@pytest.mark.parametrize("prior", PRIORS)
def test_project_and_plain_loop_compute_the_same_loss_and_gradients(prior: str) -> None:
    settings = Settings.quick(prior)
    vade = random_vade(prior, 0).double()
    plain, names = plain_twin(vade, settings)
    plain.double()
    images, noise = batch(settings, vade, 1)
    images, noise = images.double(), Noise(*(values.double() for values in noise))
    loss = -vade.terms(images, noise, torch.tensor(0.7, dtype=torch.float64)).elbo
    other = plain(images, noise.latent, noise.gumbel, 0.7)
    # posterior() rounds mean and log variance to float32.
    torch.testing.assert_close(loss, other, rtol=1e-6, atol=0)
    loss.backward()
    other.backward()
    gradients = {name: parameter.grad for name, parameter in plain.named_parameters()}
    for name, parameter in vade.named_parameters():
        assert parameter.grad is not None
        largest = float(parameter.grad.abs().max())
        assert largest > 1e-3, name
        torch.testing.assert_close(parameter.grad, gradients[names[name]], rtol=1e-4, atol=1e-5 * largest)


@pytest.mark.parametrize("prior", PRIORS)
def test_stacked_models_have_the_losses_and_gradients_of_separate_ones(prior: str) -> None:
    settings = Settings.quick(prior)
    models = [random_vade(prior, seed) for seed in range(3)]
    stacked = StackedVaDE(models)
    images = torch.stack([batch(settings, model, seed)[0] for seed, model in enumerate(models)])
    generators = [torch.Generator().manual_seed(50 + seed) for seed in range(3)]
    noise = stacked.draw_noise(settings.batch_size, generators)
    temperature = torch.tensor(0.7)
    elbo = stacked.terms(images, noise, temperature).elbo
    elbo.sum().backward()
    for seed, model in enumerate(models):
        own_noise = model.draw_noise(settings.batch_size, torch.Generator().manual_seed(50 + seed))
        own = model.terms(images[seed], own_noise, temperature).elbo
        torch.testing.assert_close(elbo[seed], own)
        own.backward()
        for name, parameter in model.named_parameters():
            gradient = stacked.parameters[f"vade.{name}"].grad
            assert gradient is not None
            assert parameter.grad is not None
            largest = float(parameter.grad.abs().max())
            torch.testing.assert_close(gradient[seed], parameter.grad, rtol=1e-4, atol=1e-4 * largest)
    assert not torch.allclose(elbo[0], elbo[1])


def test_stacked_training_is_that_of_separate_models(tmp_path: Path) -> None:
    """Adam sees the stacked weights as if each model were alone: a step of one side is a step of the other."""
    settings = Settings.quick("uniform")
    models = [random_vade("uniform", seed) for seed in range(2)]
    stacked = StackedVaDE(models)
    data = [batch(settings, model, seed) for seed, model in enumerate(models)]
    images = torch.stack([pair[0] for pair in data])
    noise = Noise(*(torch.stack(values) for values in zip(*(pair[1] for pair in data))))
    together = torch.optim.Adam(stacked.parameters.values(), lr=0.01, fused=True)
    for _ in range(3):
        together.zero_grad()
        (-stacked.terms(images, noise, torch.tensor(0.7)).elbo).sum().backward()
        together.step()
    for seed, model in enumerate(models):
        alone = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
        for _ in range(3):
            alone.zero_grad()
            (-model.terms(*data[seed], torch.tensor(0.7)).elbo).backward()
            alone.step()
        means = stacked.parameters["vade.mixture.means"][seed]
        torch.testing.assert_close(means, model.mixture.means, rtol=1e-3, atol=1e-4)


def test_a_round_of_the_project_counts_its_steps_without_the_first_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(Settings.quick("uniform"), steps=5, warm_up=2)
    side = sides.ProjectSide(Configured.read(settings), tmp_path, Tracker(None))
    clock = side.fit(7)
    assert [steps for steps, _ in clock.marks] == [0, 2, 4, 6, 7]
    assert side.model.steps_taken == 7
    assert clock.end > clock.marks[-1][1] > clock.marks[0][1]
    clock.marks, clock.end = [(7, 0.0), (9, 10.0), (11, 11.0), (13, 12.0), (14, 12.5)], 13.5
    monkeypatch.setattr(side, "fit", lambda _: clock)
    assert side.round() == 5 / 2.5
    assert side.end_seconds == [1.0]
    assert (tmp_path / "runs" / "benchmark" / "run" / "checkpoints" / "last.ckpt").exists()


def test_the_trainers_deterministic_mode_does_not_reach_the_other_sides(tmp_path: Path) -> None:
    torch.use_deterministic_algorithms(False)
    side = sides.ProjectSide(Configured.read(Settings.quick("uniform")), tmp_path, Tracker(None))
    side.fit(2)
    assert not torch.are_deterministic_algorithms_enabled()


def test_half_precision_reaches_the_wide_layers(tmp_path: Path) -> None:
    configured = Configured.read(Settings.quick("uniform"))
    side = sides.ProjectSide(configured, tmp_path, Tracker(None), precision="bf16-mixed")
    seen: list[torch.dtype] = []
    side.model.vade.autoencoder.encoder[1].register_forward_hook(lambda *call: seen.append(call[2].dtype))
    side.fit(1)
    assert seen[0] == torch.bfloat16


def test_laps_give_the_time_to_the_innermost(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    laps = Laps(lambda: None, BETWEEN)
    for entered, seconds in ((FORWARD, 3.0), (PRIOR, 2.0), (None, 1.0), (None, 0.5)):
        laps.leave() if entered is None else laps.enter(entered)
        now += seconds
    laps.enter(ADAM)
    assert {name: laps.seconds[name] for name in (FORWARD, PRIOR)} == {FORWARD: 4.0, PRIOR: 2.0}


def test_profile_adds_up_and_sees_every_part(tmp_path: Path) -> None:
    settings = replace(Settings.quick("hypergeometric"), steps=4)
    side = sides.ProjectSide(Configured.read(settings), tmp_path, Tracker(None))
    start = time.perf_counter()
    parts = profile(side)
    assert list(parts) == list(PARTS)
    assert sum(parts.values()) * settings.steps < 1e3 * (time.perf_counter() - start)
    assert min(parts[name] for name in (FORWARD, PRIOR, BACKWARD, ADAM)) > 0
    assert prior_alone(side, 1) > 0


def test_no_compiler_is_a_reason_to_skip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(Skipped, match="no C\\+\\+ compiler"):
        sides.compiled_side(Configured.read(Settings.quick()), tmp_path, Tracker(None))


def test_settings_that_cannot_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ExperimentError, match="--prior must be one of"):
        check(Settings(prior="central"))
    with pytest.raises(ExperimentError, match="--rounds must be at least 1, got 0"):
        check(Settings(rounds=0))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ExperimentError, match="finds no CUDA GPU"):
        check(Settings(accelerator="gpu"))


def test_whole_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    settings = [replace(Settings.quick(prior), seeds=(2,), compile=True) for prior in ("categorical", "uniform")]
    benchmark = Benchmark(settings, log=lambda _: None)
    benchmark.run()
    paths = report.write(benchmark, tmp_path / "out")
    assert sorted(path.name for path in paths) == ["clustering.csv", "clustering.json", "clustering.md"]
    everything = json.loads((tmp_path / "out" / "clustering.json").read_text())
    rates = everything["rates"]["uniform"]
    assert {len(values) for values in rates.values()} == {settings[0].rounds}
    frame = pd.read_csv(tmp_path / "out" / "clustering.csv")
    row = frame[(frame["prior"] == "uniform") & (frame["work"] == PROJECT)].iloc[0]
    ratios = [ours / theirs for ours, theirs in zip(rates[PROJECT], rates[PLAIN])]
    assert row["ratio"] == pytest.approx(sum(ratios) / 2)  # the median of two
    assert (row["lowest_ratio"], row["highest_ratio"]) == pytest.approx((min(ratios), max(ratios)))
    assert len(frame) == 6
    assert frame["target"].isna().all()  # tiny sizes are not judged
    text = (tmp_path / "out" / "clustering.md").read_text()
    assert "Tiny sizes" in text
    assert "no C++ compiler" in text
    assert "nan" not in text


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    try:
        options = ["--quick", "--rounds", "1", "--steps", "2", "--prior", "uniform", "--output", str(tmp_path)]
        benchmark_clustering.main(options)
        assert (tmp_path / "clustering.md").exists()
        assert "uniform, project beside plain loop" in capsys.readouterr().out
        with pytest.raises(SystemExit):
            benchmark_clustering.main(["--quick", "--rounds", "0", "--output", str(tmp_path)])
        assert "--rounds must be at least 1, got 0" in capsys.readouterr().err
    finally:
        torch.set_num_threads(threads)
