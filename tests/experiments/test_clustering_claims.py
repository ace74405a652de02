"""The claims about clustering by their fixed rules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from experiments.claims.clustering import clustering
from experiments.claims.known_sizes import known_sizes
from experiments.claims.rules import Claim
from experiments.claims.rules import judge as judge_one
from experiments.claims.summary import judge_all
from tests.experiments.clustering_metrics import write_block

UNIFORM_60 = "the hypergeometric prior has a better accuracy than the uniform one, 60 %"
CATEGORICAL_60 = "the categorical prior has a worse accuracy than the uniform one, 60 %"
WEIGHTS = "Figure 3"
PUBLISHED = "94 % test accuracy"


def judge(folder: Path, claim: str) -> Claim:
    found = map(judge_one, clustering(folder))
    return next(one for one in found if claim in f"{one.place}: {one.claim}")


def set_accuracies(folder: Path, prior: str, accuracies: Sequence[float]) -> None:
    """Test accuracy after training of seeds 0, 1, ... on the 60 % version."""
    path = folder / "clustering_metrics.csv"
    table = pd.read_csv(path, dtype={"version": str})
    for seed, accuracy in enumerate(accuracies):
        chosen = (
            (table["prior"] == prior)
            & (table["version"] == "60")
            & (table["seed"] == seed)
            & (table["stage"] == "vade")
        )
        table.loc[chosen & (table["split"] == "test"), "accuracy"] = accuracy
    table.to_csv(path, index=False)


@pytest.mark.parametrize(
    ("differences", "hypergeometric", "categorical"),
    [
        # standard error of the mean of three: 1 / sqrt(3) = 0.577 points, of which Student's t wants 4.303
        ((0.016, 0.026, 0.036), "holds", "holds"),
        ((0.014, 0.024, 0.034), "no difference", "no difference"),
        ((-0.01, 0.0, 0.01), "no difference", "no difference"),
        ((0.0010, 0.0010, 0.0011), "no difference", "no difference"),  # nor does a tenth of a point count, however sure
        ((-0.034, -0.024, -0.014), "no difference", "no difference"),
        ((-0.036, -0.026, -0.016), "fails", "fails"),
    ],
)
def test_paired_differences(
    tmp_path: Path, differences: Sequence[float], hypergeometric: str, categorical: str
) -> None:
    write_block(tmp_path, versions=["60"])
    base = [0.5, 0.75, 0.625]  # the spread between seeds must not matter
    better = [one + difference for one, difference in zip(base, differences, strict=True)]
    set_accuracies(tmp_path, "uniform", base)
    set_accuracies(tmp_path, "hypergeometric", better)
    assert judge(tmp_path, UNIFORM_60).outcome == hypergeometric
    set_accuracies(tmp_path, "uniform", better)
    set_accuracies(tmp_path, "categorical", base)
    assert judge(tmp_path, CATEGORICAL_60).outcome == categorical


def test_pairs_need_the_same_seeds_and_three_of_them(tmp_path: Path) -> None:
    write_block(tmp_path, seeds=[0, 1, 2], priors=["uniform"], versions=["60"])
    claim = judge(tmp_path, UNIFORM_60)
    assert (claim.measured, claim.outcome, claim.verdict) == (
        "no run of the hypergeometric prior",
        "not judged",
        "not comparable",
    )
    write_block(tmp_path, seeds=[2, 3], priors=["hypergeometric"], versions=["60"])
    verdict = judge(tmp_path, UNIFORM_60)
    assert verdict.outcome == "not judged"
    assert (verdict.measured, verdict.reason) == ("+3.00 points", "one seed is too few")
    write_block(tmp_path, seeds=[0, 1], priors=["hypergeometric"], versions=["60"])
    verdict = judge(tmp_path, UNIFORM_60)
    assert verdict.outcome == "holds"
    assert verdict.provenance is not None
    assert (verdict.provenance.profile, verdict.provenance.data) == ("quick", "digits_5000")
    assert verdict.provenance.seeds == (0, 1, 2)  # those that both have


@pytest.mark.parametrize(
    ("swapped", "outcome"),
    [
        ([], "holds"),  # 0.87, the most that tied frequencies allow
        ([(0, 5)], "close"),  # one cut and one whole class change places in all runs
        ([(0, 5), (1, 6)], "fails"),
        (None, "fails"),  # equal weights in two of three runs: no order learned, which counts as 0
    ],
)
def test_learned_weights(tmp_path: Path, swapped: Sequence[tuple[int, int]] | None, outcome: str) -> None:
    write_block(tmp_path, priors=["hypergeometric", "uniform"], versions=["60"])
    path = tmp_path / "clustering_weights.csv"
    table = pd.read_csv(path, dtype={"version": str})
    table.loc[table["prior"] == "uniform", "train_fraction"] = 0.1  # clusters that show no order
    places = {one: other for pair in swapped or [] for one, other in (pair, pair[::-1])}
    table["learned_frequency"] = 0.1 + 0.001 * table["matched_class"].replace(places)
    if swapped is None:
        table.loc[table["seed"] > 0, "learned_frequency"] = 0.1
    table.to_csv(path, index=False)
    claim = judge(tmp_path, WEIGHTS)
    assert claim.outcome == outcome
    assert ("lowest 0.00" in claim.measured) == (swapped is None)


@pytest.mark.parametrize(
    ("accuracy", "profile", "data", "verdict"),
    [
        (0.93, "paper", "mnist", "reproduced"),  # median 0.94 of 0.93, 0.94, 0.95
        (0.89, "paper", "mnist", "close"),
        (0.88, "paper", "mnist", "not reproduced"),
        (0.97, "medium", "mnist", "not comparable"),
        (0.97, "paper", "digits_5000", "not comparable"),
    ],
)
def test_published_accuracy(tmp_path: Path, accuracy: float, profile: str, data: str, verdict: str) -> None:
    given = {"uniform": accuracy}
    write_block(tmp_path, profile, data, priors=["uniform"], versions=["full"], accuracy=given, epochs=1000)
    result = judge(tmp_path, PUBLISHED)
    assert result.verdict == verdict
    assert result.measured == f"{100 * accuracy + 1:.1f} %, 1000 epochs"


def test_other_readings_priors_and_versions_are_not_judged(tmp_path: Path) -> None:
    write_block(tmp_path)
    before = [judge_one(one).measured for one in clustering(tmp_path)]
    for name in ("metrics", "weights"):
        path = tmp_path / f"clustering_{name}.csv"
        table = pd.read_csv(path, dtype={"version": str})
        others = table[(table["prior"] == "hypergeometric") & (table["version"] == "60")]
        others = pd.concat([others.assign(prior="dirichlet"), others.assign(version="40")])
        pd.concat([table, others.assign(run_id=others["run_id"] + "-other")]).to_csv(path, index=False)
    assert [judge_one(one).measured for one in clustering(tmp_path)] == before


def test_harder_versions_have_orders_of_their_own_and_change_no_other_claim(tmp_path: Path) -> None:
    write_block(tmp_path, recipe="vade")
    before = [judge_one(one) for one in clustering(tmp_path)]
    write_block(tmp_path, recipe="vade", versions=["10"], accuracy={"uniform": 0.3, "hypergeometric": 0.2})
    after = [judge_one(one) for one in clustering(tmp_path)]
    kept = [one for one in after if "harder" not in one.place and not one.claim.endswith("prior, 10 %")]
    assert [(one.claim, one.measured) for one in kept] == [(one.claim, one.measured) for one in before]
    harder = [one for one in after if "harder" in one.place]
    assert {one.place for one in harder} == {"ours (recipe vade), harder versions"}
    assert {one.claim[-4:] for one in harder} == {"10 %"}
    verdicts = {one.claim: one.verdict for one in harder}
    assert verdicts["the hypergeometric prior has a better accuracy than the uniform one, 10 %"] == "fails"


def test_the_gain_must_grow_with_the_imbalance_by_more_than_the_noise(tmp_path: Path) -> None:
    write_block(tmp_path)  # at full the hypergeometric prior is 3 points above the uniform one
    claim = "gains more over the uniform one at 60 % than on full data"
    set_accuracies(tmp_path, "hypergeometric", [0.90, 0.91, 0.92])
    set_accuracies(tmp_path, "uniform", [0.85, 0.86, 0.87])
    assert (judge(tmp_path, claim).outcome, judge(tmp_path, claim).measured[:12]) == ("holds", "+2.00 points")
    set_accuracies(tmp_path, "uniform", [0.86, 0.90, 0.88])
    assert judge(tmp_path, claim).outcome == "no difference"
    set_accuracies(tmp_path, "uniform", [0.90, 0.91, 0.92])
    assert judge(tmp_path, claim).outcome == "fails"


def test_learned_weights_must_beat_the_shares_of_the_uniform_priors_clusters(tmp_path: Path) -> None:
    """In what is written here the uniform prior's clusters are the classes, and weights go half way to them."""
    write_block(tmp_path, versions=["60"])
    assert judge(tmp_path, "nearer to the class frequencies").outcome == "fails"
    path = tmp_path / "clustering_weights.csv"
    table = pd.read_csv(path, dtype={"version": str})
    table.loc[table["prior"] == "uniform", "train_fraction"] = 0.1
    table.to_csv(path, index=False)
    assert judge(tmp_path, "nearer to the class frequencies").outcome == "holds"
    # Clusters that are further away than weights which have learned nothing: the latter do not count.
    table.loc[table["prior"] == "uniform", "train_fraction"] = table["matched_class"] / 45
    table.loc[table["prior"] == "hypergeometric", "learned_frequency"] = 0.1
    table.to_csv(path, index=False)
    claim = judge(tmp_path, "nearer to the class frequencies")
    assert claim.outcome == "no difference"
    assert claim.measured.endswith("equal weights 2.50 points")


def test_an_order_that_clusters_without_weights_have_is_not_that_of_weights(tmp_path: Path) -> None:
    """What is written here gives the uniform prior's clusters the frequencies of the classes."""
    write_block(tmp_path, priors=["hypergeometric"], versions=["60"])
    assert judge(tmp_path, WEIGHTS).reason == "no run of the uniform prior"
    write_block(tmp_path, priors=["uniform"], versions=["60"])
    path = tmp_path / "clustering_weights.csv"
    table = pd.read_csv(path, dtype={"version": str})
    table["learned_frequency"] = table["true_frequency"]
    table.to_csv(path, index=False)
    claim = judge(tmp_path, WEIGHTS)
    assert (claim.outcome, claim.reason) == ("not judged", "clusters without weights show the frequencies as well")
    # Nor where the mean is above theirs by what one seed of three has.
    first = table["seed"] == 0
    order = table["matched_class"].replace({8: 9, 9: 8})  # a rank correlation of 0.99
    table.loc[first & (table["prior"] == "uniform"), "train_fraction"] = 0.055 + 0.01 * order
    table.to_csv(path, index=False)
    assert judge(tmp_path, WEIGHTS).outcome == "not judged"
    # Where weights do not show them, clusters that do are no excuse.
    table["learned_frequency"] = 1 - table["true_frequency"]
    table.to_csv(path, index=False)
    assert judge(tmp_path, WEIGHTS).outcome == "fails"
    # A run without weights is no seed, and one seed is too few.
    table[(table["prior"] == "uniform") | (table["seed"] == 0)].to_csv(path, index=False)
    assert judge(tmp_path, WEIGHTS).reason == "one seed is too few"


def test_what_is_no_clustering_keeps_nothing(tmp_path: Path) -> None:
    """All digits in one cluster, before and after; and a seed whose accuracy is not known."""
    write_block(tmp_path, priors=["uniform"], versions=["60"], accuracy={"start": 0.1, "uniform": 0.1})
    assert judge(tmp_path, "training keeps").outcome == "not judged"
    set_accuracies(tmp_path, "uniform", [0.9, 0.9, 0.9])
    assert judge(tmp_path, "training keeps").outcome == "not judged"
    write_block(tmp_path, priors=["uniform"], versions=["80"])
    path = tmp_path / "clustering_metrics.csv"
    table = pd.read_csv(path, dtype={"version": str})
    table.loc[(table["version"] == "80") & (table["seed"] == 2) & (table["stage"] == "vade"), "accuracy"] = float("nan")
    table.to_csv(path, index=False)
    assert judge(tmp_path, "the uniform prior, 80 %").reason == "these runs leave a number undefined"


def test_a_prior_on_blobs_must_find_the_sizes_and_gain(tmp_path: Path) -> None:
    """Weights whose mean error is 9 % in every seed; then 11 % in one, of both signs, and a gain that is noise."""

    def write(folder: Path, errors: Sequence[float], gains: Sequence[float]) -> list[str]:
        write_block(folder, data="blobs", priors=["uniform", "categorical"], versions=["10"])
        for name in ("metrics", "weights"):
            table = pd.read_csv(folder / f"clustering_{name}.csv", dtype={"version": str})
            table = table.rename(columns={"recipe": "overlap"}).assign(overlap=1)
            categorical = table["prior"] == "categorical"
            for seed in range(3):
                chosen = categorical & (table["seed"] == seed)
                if name == "metrics":
                    cut = (table["split"] == "test_subsampled") & (table["stage"] == "vade") & (table["seed"] == seed)
                    table.loc[cut, "accuracy"] = 0.8 + gains[seed] * categorical[cut]
                else:
                    sign = 1 - 2 * (table.loc[chosen, "cluster"] % 2)
                    table.loc[chosen, "learned_frequency"] = table["true_frequency"] * (1 + sign * errors[seed])
            table.to_csv(folder / f"clustering_control_{name}.csv", index=False)
        return [judge_one(one).outcome for one in known_sizes(folder)]

    assert write(tmp_path / "right", [0.09, 0.09, 0.09], [0.01, 0.02, 0.02]) == ["holds", "holds"]
    assert write(tmp_path / "wrong", [0.09, 0.09, 0.11], [0.0, 0.02, 0.02]) == ["fails", "no difference"]
    for path in (tmp_path / "right").glob("clustering_[mw]*.csv"):  # of the control alone
        path.unlink()
    claims, problems = judge_all(tmp_path / "right")
    assert not problems and [one.outcome for one in claims] == ["holds", "holds"]


def test_one_seed_that_falls_below_its_start_is_enough_to_fail(tmp_path: Path) -> None:
    start = {"start": 0.5, "uniform": 0.497}
    write_block(tmp_path, priors=["uniform"], versions=["60"], accuracy=start, recipe="n2d")
    write_block(tmp_path, priors=["uniform"], versions=["80"], accuracy=start, recipe="vade")
    assert judge(tmp_path, "ours (vade): training keeps").outcome == "holds"
    claim = judge(tmp_path, "training keeps what it starts with")
    assert claim.outcome == "holds"
    set_accuracies(tmp_path, "uniform", [0.6, 0.6, 0.51])  # a point below the last one's start
    assert judge(tmp_path, "ours (n2d): training keeps what it starts with").outcome == "fails"


def test_a_run_without_a_start_takes_no_other_claim_along(tmp_path: Path) -> None:
    write_block(tmp_path, versions=["60"], recipe="n2d")
    path = tmp_path / "clustering_metrics.csv"
    table = pd.read_csv(path, dtype={"version": str})
    table[table["stage"] != "start"].to_csv(path, index=False)
    assert judge(tmp_path, "training keeps what it starts with").measured == "no run"
    assert judge(tmp_path, UNIFORM_60).outcome != "not judged"


def test_nothing_with_umap_is_the_papers(tmp_path: Path) -> None:
    write_block(tmp_path, "paper", "mnist", recipe="n2d", epochs=1000)
    places = {judge_one(one).place for one in clustering(tmp_path)}
    assert all(place.startswith("ours") for place in places)
