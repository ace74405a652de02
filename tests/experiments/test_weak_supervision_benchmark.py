"""The benchmark of the training on pairs: both sides compute the same, the clock sees what it should, the report is
whole."""

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
from experiments.benchmark.turns import Clock, ratios, take_turns
from experiments.common.errors import ExperimentError
from experiments.common.tracking import Tracker
from experiments.weak_supervision.benchmark import memory, report
from experiments.weak_supervision.benchmark.configured import Configured
from experiments.weak_supervision.benchmark.plain import PlainLabelVAE, plain_loop, to_float
from experiments.weak_supervision.benchmark.profile import ADAM, DATA, LOADING, PARTS, REST, SAMPLING, profile
from experiments.weak_supervision.benchmark.run import DATA_SIDE, Benchmark
from experiments.weak_supervision.benchmark.settings import Settings
from experiments.weak_supervision.benchmark.sides import (
    ADA,
    COMPILED,
    EVIDENCE,
    HALF,
    HG,
    HG_INITIAL,
    LABEL,
    METHODS,
    PLAIN,
    SIDES,
    ProjectSide,
    make_side,
)
from experiments.weak_supervision.data import PairData, PairSplits
from experiments.weak_supervision.factors import FactorGrid
from experiments.weak_supervision.group_vae import Context
from experiments.weak_supervision.images import FactorImages
from experiments.weak_supervision.label_vae import LabelVAE
from experiments.weak_supervision.pairs import PairSampler
from experiments.weak_supervision.training import load_batch
from mvhg import ExponentialAnnealing
from scripts import benchmark_weak_supervision

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def deterministic_mode_put_back() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    yield
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def small_splits(image_size: int = 32) -> PairSplits:
    """Random images of a grid with two or three values per factor; every image in both splits."""
    grid = FactorGrid((2, 3, 2, 2, 3, 2, 2))
    shape = (grid.num_images, image_size, image_size, 3)
    images = torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    sampler = PairSampler(grid, torch.arange(grid.num_images), 3)
    return PairSplits(FactorImages("random", grid, images), sampler, sampler)


def project_side(folder: Path, **options: object) -> ProjectSide:
    return ProjectSide(Settings.quick(), small_splits(), folder, Tracker(None), **options)  # type: ignore[arg-type]


def plain_twin(model: LabelVAE) -> tuple[PlainLabelVAE, dict[str, Tensor]]:
    """The plain loop's model with the same weights; here by the name there, in one order for weights and gradients."""
    plain = PlainLabelVAE(model.num_latents, model.image_size)

    def renamed(kind: str) -> dict[str, Tensor]:
        named = {name: getattr(parameter, kind) for name, parameter in model.named_parameters()}
        result = {}
        for place in ("weight", "bias"):
            mean, log_variance = named[f"encoder.heads.{place}"].chunk(2)
            result |= {f"to_mean.{place}": mean, f"to_log_variance.{place}": log_variance}
            others = [name for name in named if name.endswith(place) and "heads" not in name]
            twins = [name for name in plain.state_dict() if name.endswith(place) and not name.startswith("to_")]
            result |= {twin: named[name] for name, twin in zip(others, twins, strict=True)}
        return result

    plain.load_state_dict(renamed("data"))  # strict: every one, no other
    return plain, renamed


@pytest.mark.parametrize("image_size", [32, 64])
def test_project_and_plain_loop_compute_the_same_loss_and_gradients(image_size: int) -> None:
    torch.manual_seed(0)
    model = LabelVAE(num_latents=10, image_size=image_size)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))  # biases away from 0
    model.encode = lambda images: model.encoder(images)  # type: ignore[method-assign] # encode and decode round to
    model.decode = lambda latents: model.decoder(latents)  # type: ignore[method-assign] # float32
    model.double()
    plain, renamed = plain_twin(model)
    plain.double()
    views = torch.rand(2, 5, 3, image_size, image_size, dtype=torch.float64)
    noise, label = torch.randn(2, 5, 10, dtype=torch.float64), torch.tensor([0, 3, 6, 6, 2])
    context = Context(label, torch.tensor(0.5), torch.Generator())
    loss = model.loss(*model(views.flatten(0, 1), noise, context))
    other = plain((views[0], views[1]), label, noise)
    torch.testing.assert_close(loss, other, rtol=1e-12, atol=0)
    loss.backward()
    other.backward()
    for name, gradient in renamed("grad").items():
        own = plain.get_parameter(name).grad
        assert own is not None
        assert float(own.abs().max()) > 1e-6, name
        torch.testing.assert_close(own, gradient, rtol=1e-8, atol=1e-9)


def test_both_sides_see_the_same_images() -> None:
    splits = small_splits()
    index = torch.tensor([[3, 7, 200], [250, 0, 1]])
    views = [to_float(splits.images.gather(view)) for view in index]
    torch.testing.assert_close(torch.cat(views), load_batch(splits.images, index, CPU), rtol=0, atol=0)
    assert all(view.is_contiguous() for view in views)


def test_plain_loop_counts_the_steps_after_the_warm_up_and_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = small_splits()
    torch.manual_seed(0)
    model = PlainLabelVAE(10, 32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    now = [0.0]
    seen: list[float] = []

    def clock() -> float:
        seen.append(now[0])
        return now[0]

    sample = splits.train.sample
    monkeypatch.setattr(splits.train, "sample", lambda *given: (now.__setitem__(0, now[0] + 1), sample(*given))[1])
    monkeypatch.setattr(time, "perf_counter", clock)
    seconds = plain_loop(
        model,
        splits.images,
        splits.train,
        batch_size=4,
        steps=3,
        warm_up=2,
        device=CPU,
        synchronize=lambda: None,
    )
    assert seconds == 3.0  # a second per batch, of which two are left out
    assert all(not torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_round_of_the_project_counts_its_steps_without_the_first_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(Settings.quick(), steps=4, warm_up=2)
    side = ProjectSide(settings, small_splits(), tmp_path, Tracker(None))
    side.fit(1)  # as the compiled side's first step, a chunk of another size
    clock = side.fit(6)
    assert [steps for steps, _ in clock.marks] == [0, 2, 4, 6]
    assert clock.end > clock.marks[-1][1] > clock.marks[0][1]
    asked: list[int] = []
    clock.marks = [(6, 0.0), (8, 10.0), (10, 11.0), (12, 13.0)]

    def fit(steps: int) -> Clock:
        asked.append(steps)
        return clock

    monkeypatch.setattr(side, "fit", fit)
    assert side.round() == 3.0 / 4
    assert asked == [6]


def test_every_side_trains_what_its_name_says(tmp_path: Path) -> None:
    sides = {}
    for name in SIDES:
        if name not in (PLAIN, COMPILED):
            side = make_side(name, Settings.quick(), small_splits(), tmp_path, Tracker(None))
            assert isinstance(side, ProjectSide)
            sides[name] = side
    kinds = {name: type(side.module.model).__name__ for name, side in sides.items()}
    assert kinds == {
        LABEL: "LabelVAE", ADA: "AdaVAE", HG: "HGVAE", EVIDENCE: "EvidenceHGVAE", HG_INITIAL: "HGVAE", HALF: "LabelVAE"
    }  # fmt: skip
    temperatures = {name: side.module.annealing(17) for name, side in sides.items()}
    assert temperatures.pop(HG_INITIAL) == pytest.approx(10.0)
    assert list(temperatures.values()) == pytest.approx([0.01] * 5)
    assert {side.module.settings.batch_size for side in sides.values()} == {4}


def test_the_trainers_deterministic_mode_does_not_reach_the_other_sides(tmp_path: Path) -> None:
    torch.use_deterministic_algorithms(False)
    project_side(tmp_path).fit(1)
    assert not torch.are_deterministic_algorithms_enabled()


def test_half_precision_reaches_the_networks(tmp_path: Path) -> None:
    side = project_side(tmp_path, precision="bf16-mixed")
    seen: list[torch.dtype] = []
    side.module.model.decoder.convolutions[1].register_forward_hook(lambda *call: seen.append(call[2].dtype))
    side.fit(1)
    assert seen[0] == torch.bfloat16


def test_laps_of_items_give_the_making_of_each_to_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    laps = Laps(lambda: None, REST)

    class Batches:
        def steps(self, number: int) -> Iterator[int]:
            nonlocal now
            for item in range(number):
                now += 2.0
                yield item

    batches = Batches()
    laps.around_items(batches, "steps", LOADING)
    for _ in batches.steps(3):
        now += 0.5  # what is done with the item
    laps.enter(ADAM)
    assert laps.seconds == {LOADING: 6.0, REST: 1.5}


@pytest.mark.parametrize("method", METHODS)
def test_profile_adds_up_and_sees_every_part(tmp_path: Path, method: str) -> None:
    side = project_side(tmp_path, method=method)
    sampler = side.module.sampler.sample
    side.module.sampler.sample = lambda *given: (time.sleep(0.05), sampler(*given))[1]  # type: ignore[method-assign]
    # on_fit_start makes another sampler: a slow one is put where training will look.
    side.module.sampler.to = lambda device: side.module.sampler  # type: ignore[method-assign,assignment]
    start = time.perf_counter()
    parts = profile(side)
    assert list(parts) == list(PARTS)
    assert sum(parts.values()) * side.settings.steps < 1e3 * (time.perf_counter() - start)
    assert min(parts.values()) > 0
    assert parts[SAMPLING] > 50  # a chunk is a step here
    assert parts[LOADING] < 50


def test_share_of_a_run_above_temperature_one() -> None:
    schedule = ExponentialAnnealing(10.0, 0.01, 50_000)  # the paper's, C.2.3, of 300,000 steps
    above = sum(schedule(step) > 1 for step in range(50_000)) / 300_000
    assert Configured.read(Settings.quick(), HG).share_above_one() == pytest.approx(above, abs=1e-5)


def test_turns_and_their_ratios() -> None:
    order: list[str] = []
    sides = {name: (lambda name=name: (order.append(name), len(order))[1]) for name in "abc"}
    results = take_turns(sides, 2)  # type: ignore[arg-type]
    assert order == ["a", "b", "c", "c", "b", "a"]
    assert results == {"a": [1, 6], "b": [2, 5], "c": [3, 4]}
    assert ratios([2.0, 9.0, 5.0], [1.0, 3.0, 2.0]) == {"ratio": 2.5, "lowest_ratio": 2.0, "highest_ratio": 3.0}


class Allocating:
    """Takes 200 MiB while it trains."""

    def train(self, steps: int) -> None:
        torch.ones(200 * 2**18)

    def round(self) -> float:
        return 0.0


def test_memory_of_a_training_is_what_it_adds() -> None:
    measured = memory.training_memory(Allocating(), "cpu")
    assert 195 < measured[memory.GROWTH] < 220
    assert measured[memory.PEAK] > 200


def test_memory_is_measured_in_a_process_of_its_own() -> None:
    measured = memory.measure_apart(PLAIN, Settings.quick())
    # Adam's two moments and the gradients of 600,000 weights are 7 MB.
    assert measured[memory.PEAK] > measured[memory.GROWTH] > 5


def test_no_compiler_is_a_reason_to_skip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(Skipped, match="no C\\+\\+ compiler"):
        make_side(COMPILED, Settings.quick(), small_splits(), tmp_path, Tracker(None))


def test_settings_that_cannot_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ExperimentError, match="--image-size must be 64 or 32, got 48"):
        Settings(image_size=48)
    with pytest.raises(ExperimentError, match="--batch-size must be at least 1, got 0"):
        Settings(batch_size=0)
    with pytest.raises(ExperimentError, match="--steps must be a multiple of 10, a chunk of steps, got 15"):
        Settings(steps=15)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ExperimentError, match="finds no CUDA GPU"):
        Settings(accelerator="gpu")


def test_targets_are_judged_by_the_median_of_the_rounds(tmp_path: Path) -> None:
    settings = replace(Settings.quick(image_size=64, batch_size=64), judged=True)
    benchmark = Benchmark([settings], log=lambda _: None)
    benchmark.seconds[settings.size] = {
        LABEL: [1.0, 1.0, 2.0],
        ADA: [1.06, 1.06, 2.0],
        HG: [1.05, 9.0, 2.0],
        HG_INITIAL: [2.0, 2.0, 4.0],
        PLAIN: [1.3, 1.3, 2.0],
    }
    milliseconds = dict.fromkeys(PARTS, 0.0) | {SAMPLING: 2.0, LOADING: 3.0, REST: 96.0}
    benchmark.parts[settings.size] = {LABEL: milliseconds}
    benchmark.share_above_one = 0.1
    for name in benchmark.seconds[settings.size]:
        benchmark._compare(settings, name, {memory.PEAK: 700.0, memory.GROWTH: 80.0})
    benchmark._judge_data(settings)
    frame = report.table(benchmark).set_index("side")
    reached = {LABEL: "", ADA: "no", HG: "yes", HG_INITIAL: "", PLAIN: "yes", DATA_SIDE: "yes"}
    assert frame["reached"].to_dict() == reached
    numbers = frame.loc[HG, ["seconds_per_step", "ratio", "lowest_ratio", "highest_ratio"]]
    assert numbers.tolist() == [2.0, 1.05, 1.0, 9.0]
    assert frame.loc[DATA_SIDE, "ratio"] == pytest.approx(5 / 101)
    assert set(frame["size"]) == {64}
    rows = [row for row in benchmark.rows if row.size == 64]
    assert "takes 1.145 times LabelVAE's" in "".join(report._schedule(benchmark, rows))  # 0.1 * 2 + 0.9 * 1.05


def test_whole_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr(PairData, "load", lambda self, directory: small_splits(self.image_size))
    settings = replace(Settings.quick(batch_size=2), compile=True, steps=1)
    benchmark = Benchmark([settings], log=lambda _: None)
    benchmark.run()
    paths = report.write(benchmark, tmp_path / "out")
    names = [f"weak_supervision.{kind}" for kind in ("csv", "json", "md")]
    assert sorted(path.name for path in paths) == names
    text = (tmp_path / "out" / "weak_supervision.json").read_text()
    assert "NaN" not in text
    everything = json.loads(text)
    seconds = everything["seconds_per_step"]["32x32, 2 pairs"]
    assert {len(values) for values in seconds.values()} == {settings.rounds}
    frame = pd.read_csv(tmp_path / "out" / "weak_supervision.csv")
    assert len(frame) == 8  # seven sides, without the compiled one, and the data
    row = frame[frame["side"] == HG].iloc[0]
    taken = [ours / theirs for ours, theirs in zip(seconds[HG], seconds[LABEL])]
    assert (row["size"], row["batch"]) == (32, 2)
    assert row["beside"] == LABEL
    assert row["seconds_per_step"] == pytest.approx(sum(seconds[HG]) / 2)  # the median of two
    assert row["ratio"] == pytest.approx(sum(taken) / 2)
    assert (row["lowest_ratio"], row["highest_ratio"]) == pytest.approx((min(taken), max(taken)))
    data = frame[frame["side"] == DATA_SIDE].iloc[0]
    parts = everything["parts_milliseconds"]["32x32, 2 pairs"][LABEL]
    assert data["seconds_per_step"] == pytest.approx(sum(parts[name] for name in DATA) / 1e3)
    assert frame["target"].isna().all()  # tiny sizes are not judged
    page = (tmp_path / "out" / "weak_supervision.md").read_text()
    assert "Tiny sizes" in page
    assert "no C++ compiler" in page
    assert "nan" not in page


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    measured: list[Benchmark] = []
    monkeypatch.setattr(Benchmark, "run", lambda self: measured.append(self))
    monkeypatch.setattr(report, "write", lambda _, directory: [directory / "weak_supervision.csv"])
    output = ["--output", str(tmp_path)]
    try:
        sizes = ["--image-size", "64", "32", "--batch-size", "64", "32"]
        benchmark_weak_supervision.main([*sizes, "--rounds", "2", "--steps", "30", "--no-compile", *output])
        full = Settings(rounds=2, steps=30, compile=False)
        assert measured[0].settings == [full, replace(full, image_size=32, batch_size=32)]
        assert f"wrote {tmp_path / 'weak_supervision.csv'}" in capsys.readouterr().out
        benchmark_weak_supervision.main(["--quick", *output])
        assert measured[1].settings == [Settings.quick()]
        for wrong, message in (
            (["--rounds", "0"], "--rounds must be at least 1, got 0"),
            (["--image-size", "64", "32", "--batch-size", "64"], "names 2 sizes and --batch-size 1"),
            (["--threads", "0"], "--threads is 0"),
        ):
            with pytest.raises(SystemExit):
                benchmark_weak_supervision.main([*wrong, *output])
            assert message in capsys.readouterr().err
    finally:
        torch.set_num_threads(threads)
