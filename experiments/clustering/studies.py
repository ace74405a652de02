"""Tables of the studies: settings changed of the two recipes, and the control whose truth is known."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from experiments import results
from experiments.clustering.blobs import bayes_accuracies
from experiments.clustering.blocks import DATA, prior_in_words
from experiments.clustering.recovery import size_errors
from experiments.clustering.scores import NUM_CLASSES
from experiments.results import describe_seeds, provenance_of, spread
from experiments.tables import NOTHING, Table

TERMS = {"reconstruction": "reconstruction", "latent": "latent", "assignment": "entropy of q(c)"}
STUDY, CONTROL = "clustering_metrics", "clustering_control_metrics"


def study_tables(metrics: Path) -> list[Table]:
    """Test accuracy before and after training of runs with changed settings, beside the same seeds' own settings."""
    header = ["recipe, prior, version", "changed", "seeds", "start: Acc (each seed)", "after training: Acc (each seed)"]
    header += ["bound", *TERMS.values()]
    tables = []
    for block in _blocks(metrics, STUDY):
        test = block.lines[block.lines["split"] == "test"]
        rows, provenance = [], []
        for (recipe, version), group in test.groupby(["recipe", "version"]):
            changed = group[group["changes"] != ""]
            own = (group["changes"] == "") & group["seed"].isin(changed["seed"]) & group["prior"].isin(changed["prior"])
            for (prior, changes), part in pd.concat([group[own], changed]).groupby(["prior_words", "changes"]):
                start, trained = (part[part["stage"] == stage] for stage in ("start", "vade"))
                cells = [_per_seed(start["accuracy"]), _per_seed(trained["accuracy"]), spread(trained["elbo"], 1)]
                cells += [spread(trained[term], 3 if term == "assignment" else 1) for term in TERMS]
                seeds = ", ".join(str(seed) for seed in sorted(part["seed"].unique()))
                rows.append([f"{recipe}, {prior}, {version}", changes or "nothing", seeds, *cells])
                provenance.append(provenance_of(part, f"{STUDY}.csv"))
        if rows:
            place = f"profile {block.profile}, {DATA.get(block.data, block.data)}"
            tables.append(Table(f"Settings changed, {place}, test split", header, rows, provenance))
    return tables


def control_tables(metrics: Path) -> list[Table]:
    """Accuracy of every prior on blobs of known sizes, beside what the sizes are worth to the best classifier."""
    header = ["overlap, version", "best classifier, gain by the sizes", "prior; changed", "Acc", "above uniform"]
    header += ["whole split: Acc", "above uniform", "weights: error", "seeds"]
    tables = []
    for block in _blocks(metrics, CONTROL):
        name = CONTROL.replace("metrics", "weights")
        shares = results.read_metrics(metrics, name, changes=True, dtype={"version": str})
        trained = block.lines[block.lines["stage"] == "vade"]
        lines, whole = (trained[trained["split"] == split] for split in ("test_subsampled", "test"))
        rows, provenance = [], []
        for (overlap, version), cell in lines.groupby(["overlap", "version"]):
            ratio = 1.0 if version == "full" else float(version) / 100
            best = {
                changes: _best_classifier(overlap / 100, ratio, str(changes)) for changes in cell["changes"].unique()
            }
            for (changes, prior), part in cell.groupby(["changes", "prior_words"]):
                uniform = cell[(cell["prior"] == "uniform") & (cell["changes"] == changes)]
                if uniform.empty:
                    uniform = cell[(cell["prior"] == "uniform") & (cell["changes"] == "")]
                cells = []
                for split in (lines, whole):
                    own, other = (
                        100 * split[split["run_id"].isin(runs["run_id"])].set_index("seed")["accuracy"]
                        for runs in (part, uniform)
                    )
                    gain = (own - other).dropna()
                    above = NOTHING if prior == "uniform" or gain.empty else _with_error(gain)
                    cells += [spread(own, 1), above]
                error = size_errors(shares[shares["run_id"].isin(part["run_id"])])
                size = NOTHING if prior == "uniform" else spread(100 * error, 0)
                prior = f"{prior}; {changes}" if changes else prior
                rows.append(
                    [f"{overlap} %, {version}", best[changes], prior, *cells, size, str(part["seed"].nunique())]
                )
                provenance.append(provenance_of(part, f"{CONTROL}.csv"))
        if rows:
            title = f"Control: blobs of known sizes, profile {block.profile}, {describe_seeds(lines)}"
            tables.append(Table(title, header, rows, provenance))
    return tables


def _best_classifier(overlap: float, ratio: float, changes: str) -> str:
    """Its accuracy and what the sizes are worth to it, in percent; which classes are cut makes no difference."""
    given = re.search(r"data\.subsampled_classes=\[([\d,]*)\]", changes)
    cut = len(given[1].split(",")) if given else 5
    knowing, equal = bayes_accuracies(overlap, [ratio] * cut + [1.0] * (NUM_CLASSES - cut))
    return f"{100 * knowing:.1f}, {100 * (knowing - equal):+.1f}"


def _blocks(metrics: Path, name: str) -> list[results.Block]:
    """Parts of one profile and data set, the largest first, the priors in words; none where there was no run."""
    if not (metrics / f"{name}.csv").is_file():
        return []
    table = results.read_metrics(metrics, name, changes=True, dtype={"version": str})
    words = [prior_in_words(axes) for axes in table[["prior", "conditionals", "reading"]].to_dict("records")]
    return list(results.blocks(table.assign(prior_words=words).sort_values("seed"), DATA))


def _with_error(values: pd.Series) -> str:
    """Mean and its standard error, where there are several."""
    return f"{values.mean():+.2f}" + (f" ± {values.sem():.2f}" if len(values) > 1 else "")


def _per_seed(values: pd.Series) -> str:
    """Mean and spread in percent, and every seed's value."""
    if values.empty:
        return NOTHING
    each = " ".join(f"{100 * value:.1f}" for value in values)
    return f"{spread(100 * values, 1)} ({each})"
