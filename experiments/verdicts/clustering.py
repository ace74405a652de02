"""Clustering with three priors (Section 5.3, Appendix C.3; Table 2, Figure 3), for every profile and data set."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from experiments.clustering.blocks import Block, read_blocks
from experiments.clustering.recovery import recovery
from experiments.common.collected import describe_seeds
from experiments.verdicts.verdict import CLOSE, NOT_COMPARABLE, NOT_REPRODUCED, REPRODUCED, Verdict

STANDARD_ERRORS = 2.0  # of the mean paired difference, how far below 0 it may lie: close
RANK_CORRELATION = (0.8, 0.5)  # mean over the seeds, at least: reproduced, close
PUBLISHED_ACCURACY = (0.94, 0.90)  # median over the seeds, at least: reproduced, close
PAPER_EPOCHS = 1000
FEWEST_SEEDS = 2
VERSIONS = {"60": "60 %", "80": "80 %", "full": "full data"}


def _accuracies(block: Block, prior: str, version: str) -> pd.Series:
    """Test accuracy by seed."""
    scores = block.scores()
    part = scores[(scores["prior"] == prior) & (scores["version"] == version)]
    return part.set_index("seed")["accuracy"].sort_index()


def _pair(block: Block, claim: str, better: str, worse: str, version: str, strictly: bool) -> Verdict:
    """Judges whether one prior scores at least as well as another (``strictly``: better) on the same seeds."""
    rule = (
        f"mean paired difference of the test accuracy {'above' if strictly else 'at least'} 0: reproduced; "
        f"at least -{STANDARD_ERRORS:g} standard errors: close"
    )
    pairs = pd.concat([_accuracies(block, prior, version) for prior in (better, worse)], axis=1, join="inner")
    if pairs.empty:
        return Verdict(claim, rule, f"no run; {block.source}", NOT_COMPARABLE)
    differences = pairs.iloc[:, 0] - pairs.iloc[:, 1]
    mean, seeds = differences.mean(), describe_seeds(pairs.reset_index())
    if len(differences) < FEWEST_SEEDS:
        measured = f"{100 * mean:+.2f} points, one seed is too few; {block.source}, {seeds}"
        return Verdict(claim, rule, measured, NOT_COMPARABLE)
    error = differences.sem()
    noise = " (no difference, by two of them)" if abs(mean) < STANDARD_ERRORS * error else ""
    measured = f"{100 * mean:+.2f} points, standard error {100 * error:.2f}{noise}; {block.source}, {seeds}"
    if mean > 0 or (mean == 0 and not strictly):
        return Verdict(claim, rule, measured, REPRODUCED)
    return Verdict(claim, rule, measured, CLOSE if mean >= -STANDARD_ERRORS * error else NOT_REPRODUCED)


def _learned_weights(block: Block) -> Verdict:
    """Figure 3; a run whose learned frequencies are all equal has learned no order and counts as 0."""
    reproduced, close = RANK_CORRELATION
    claim = "5.3, Figure 3: the learned weights reflect the subsampling rates, 60 %"
    rule = f"rank correlation with the class frequencies, mean over the seeds, at least {reproduced}: reproduced, "
    rule += f"{close}: close"
    weights = block.table("weights")
    part = weights[(weights["prior"] == "hypergeometric") & (weights["version"] == "60")]
    if part.empty:
        return Verdict(claim, rule, f"no run; {block.source}", NOT_COMPARABLE)
    runs = recovery(part)
    correlations = runs.loc[runs["estimate"] == "learned_frequency", "rank_correlation"].fillna(0.0)
    mean = correlations.mean()
    measured = f"{mean:.2f}, lowest {correlations.min():.2f}; {block.source}, {describe_seeds(part)}"
    if len(correlations) < FEWEST_SEEDS:
        return Verdict(claim, rule, f"{measured}; one seed is too few", NOT_COMPARABLE)
    verdict = REPRODUCED if mean >= reproduced else CLOSE if mean >= close else NOT_REPRODUCED
    return Verdict(claim, rule, measured, verdict)


def _published_accuracy(block: Block) -> Verdict:
    """The class of result that is published for this model; only MNIST with the paper's budget can show it."""
    reproduced, close = PUBLISHED_ACCURACY
    claim = "ours: 94 % test accuracy with the uniform prior on full MNIST, pretraining of our own"
    rule = f"median over the seeds at least {100 * reproduced:.0f} %: reproduced, {100 * close:.0f} %: close; "
    rule += f"MNIST and {PAPER_EPOCHS} epochs only"
    accuracies = _accuracies(block, "uniform", "full")
    if accuracies.empty:
        return Verdict(claim, rule, f"no run; {block.source}", NOT_COMPARABLE)
    epochs = int(block.scores().query("prior == 'uniform' and version == 'full'")["epochs"].min())
    median = accuracies.median()
    seeds = describe_seeds(accuracies.reset_index())
    measured = f"{100 * median:.1f} %, {epochs} epochs; {block.source}, {seeds}"
    if block.data != "mnist" or epochs < PAPER_EPOCHS or len(accuracies) < FEWEST_SEEDS:
        return Verdict(claim, rule, measured, NOT_COMPARABLE)
    verdict = REPRODUCED if median >= reproduced else CLOSE if median >= close else NOT_REPRODUCED
    return Verdict(claim, rule, measured, verdict)


def clustering(metrics: Path) -> list[Verdict]:
    """Section 5.3, each profile and data set by itself."""
    verdicts = []
    for block in read_blocks(metrics):
        for version, name in VERSIONS.items():
            for other in ("uniform", "categorical"):
                claim = f"5.3, Table 2: the hypergeometric prior is at least as good as the {other} one, {name}"
                verdicts.append(_pair(block, claim, "hypergeometric", other, version, strictly=False))
        for version in ("80", "60"):
            claim = f"5.3, Table 2: the categorical prior is below the uniform one, {VERSIONS[version]}"
            verdicts.append(_pair(block, claim, "uniform", "categorical", version, strictly=True))
        verdicts.append(_learned_weights(block))
        verdicts.append(_published_accuracy(block))
    return verdicts
