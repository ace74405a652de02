"""W&B dashboards as code: workspaces of sections of charts over the runs of some experiments, and each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from experiments.disentanglement.tables import OTHER_SCORES, SCORES
from experiments.kolmogorov_smirnov.tables import SERIES
from experiments.settings import ExperimentError
from experiments.tracking import STEP, logged_in


class Chart(NamedTuple):
    """Some metrics under a title, which has the unit.

    Attributes:
        title: Shown above.
        metrics: Names.
        over_steps: Logged values over the steps; otherwise values of the summary, a bar per group of runs.
    """

    title: str
    metrics: tuple[str, ...]
    over_steps: bool


def curves(title: str, *metrics: str) -> Chart:
    """Returns a chart of logged values over the steps."""
    return Chart(title, metrics, over_steps=True)


def bars(title: str, *metrics: str) -> Chart:
    """Returns a chart of values of the summary."""
    return Chart(title, metrics, over_steps=False)


@dataclass(frozen=True)
class Dashboard:
    """One workspace.

    Attributes:
        experiments: Whose runs it shows; the first gives the workspace and its file their name.
        group_by: Axes and other keys of the configuration that runs are grouped by, from the outermost.
        sections: Title -> charts.
    """

    experiments: tuple[str, ...]
    group_by: tuple[str, ...]
    sections: Mapping[str, Sequence[Chart]]

    @property
    def name(self) -> str:
        """Of the workspace and its file."""
        return self.experiments[0]

    def workspace(self, entity: str, project: str) -> Any:
        """Returns a ``wandb_workspaces.workspaces.Workspace``; nothing is sent."""
        from wandb_workspaces import workspaces as ws
        from wandb_workspaces.expr import And
        from wandb_workspaces.reports.v2 import interface as reports

        def panel(chart: Chart) -> Any:
            if chart.over_steps:
                return reports.LinePlot(title=chart.title, x=STEP, y=list(chart.metrics))
            return reports.BarPlot(title=chart.title, metrics=list(chart.metrics))

        sections = [
            ws.Section(name=title, panels=[panel(chart) for chart in charts], is_open=True)
            for title, charts in self.sections.items()
        ]
        runs = ws.RunsetSettings(
            filters=And(ws.Config("experiment_name").isin(list(self.experiments))),
            groupby=[ws.Config(key) for key in self.group_by],
        )
        return ws.Workspace(entity=entity, project=project, name=self.name, sections=sections, runset_settings=runs)

    def json(self, entity: str, project: str) -> str:
        """Returns the workspace as W&B gets it."""
        model = self.workspace(entity, project)._to_model()
        return str(model.model_dump_json(by_alias=True, exclude_none=True, indent=1)) + "\n"

    def push(self, entity: str, project: str) -> str:
        """Makes the workspace in W&B.

        Returns:
            Its address.

        Raises:
            ExperimentError: there is no login or no entity, or W&B refuses.
        """
        if not logged_in():
            raise ExperimentError("W&B has no key: run `wandb login`, then this again; the JSON files need no login")
        if not entity:
            raise ExperimentError("whose dashboards? give --entity USER_OR_TEAM or set WANDB_ENTITY")
        made = self.workspace(entity, project)
        try:
            made.save()
        except Exception as error:  # the client raises its own, requests' and GraphQL's kinds
            raise ExperimentError(f"W&B refused {self.name}: {str(error).splitlines()[0]}") from None
        return str(made.url)


REFERENCES, GROUPS = ("exact", "merged"), (1, 2, 3)
SECOND_WEIGHTS = range(1, 11)  # of the urns, one data set each
CLUSTERS = range(10)


def _of_references(quantity: str, title: str) -> Chart:
    return bars(title, *(f"{reference}/{quantity}" for reference in REFERENCES))


def _of_groups(series: str, quantity: str, title: str) -> Chart:
    names = (f"{series}/{reference}/group_{group}/{quantity}" for reference in REFERENCES for group in GROUPS)
    return curves(f"{title}, urn by urn, {SERIES[series]}", *names)


def _of_datasets(quantity: str, title: str) -> Chart:
    return curves(title, *(f"{quantity}/second_weight={weight}" for weight in SECOND_WEIGHTS))


KOLMOGOROV_SMIRNOV = Dashboard(
    experiments=("kolmogorov_smirnov", "accuracy"),
    group_by=("conditionals", "sampler", "profile"),
    sections={
        "Rejections": [
            _of_references("rejections_at_0.05", "rejected tests at 0.05"),
            _of_references("tests", "tests"),
            _of_references("largest_ks_distance", "largest distance D"),
            _of_references("smallest_chi_square_p_value", "smallest chi-square p"),
        ],
        **{
            f"Over the {varied}": [
                _of_groups(series, "ks_distance", "distance D"),
                _of_groups(series, "ks_p_corrected", "p after Benjamini-Hochberg"),
            ]
            for series, varied in SERIES.items()
        },
    },
)

URN = Dashboard(
    experiments=("urn",),
    group_by=("estimator", "profile"),
    sections={
        "Losses": [
            _of_datasets("train_loss", "squared loss in training, elements squared"),
            _of_datasets("validation_loss", "squared loss in validation, elements squared"),
        ],
        "Learned log weights": [_of_datasets(f"log_weight_{one}", f"log weight of group {one}") for one in GROUPS],
        "Recovery": [bars("RMSE of the log weights", "rmse")],
    },
)

WEAK_SUPERVISION = Dashboard(
    experiments=("weak_supervision",),
    group_by=("method", "shared", "changes"),
    sections={
        "Number of independent latents": [
            curves("E[k-hat], latents", "train/expected_count"),
            curves("k-hat of one draw, latents", "train/drawn_count"),
            curves("prior mean of k (PosteriorHGVAE), latents", "train/law_count"),
            bars("(E[k-hat] - k) squared, test pairs", "test/count_error"),
            bars("E[k-hat], test pairs", "test/expected_count"),
        ],
        "Bound": [
            curves("bound, nats per image", "train/bound"),
            curves("reconstruction, nats per image", "train/reconstruction"),
            curves("divergence, nats per image", "train/divergence"),
        ],
        "Weights and temperature": [
            curves("temperature", "train/temperature"),
            curves("log weight, independent - shared (HGVAE)", "train/log_weight_difference"),
            curves("gradient norm of the dense layer (HGVAE)", "train/weights_gradient"),
            curves("log weight (PosteriorHGVAE)", "train/log_weight"),
            curves("KL of the drawn sets from their prior, nats (PosteriorHGVAE)", "train/selection_divergence"),
            curves("correlations at their limit (PosteriorHGVAE)", "train/correlations_at_limit"),
            curves("widths at their limit (PosteriorHGVAE)", "train/widths_at_limit"),
        ],
        "Accuracy (Table 1)": [
            bars("shared latents", "test/shared_accuracy"),
            bars("independent latents", "test/independent_accuracy"),
        ],
    },
)

CLUSTERING = Dashboard(
    experiments=("clustering", "clustering_control"),
    group_by=("recipe", "prior", "version"),
    sections={
        "Scores": [
            curves("test accuracy", "epoch/test_accuracy"),
            curves("test NMI", "epoch/test_nmi"),
            curves("test ARI", "epoch/test_ari"),
            bars("at the end", "test/accuracy", "test/nmi", "test/ari"),
        ],
        "Bound": [
            curves("bound, nats per digit", "train/elbo"),
            curves("E[log p(x|z)], nats per digit", "train/reconstruction"),
            curves("E[log p(z|c)] - E[log q(z|x)], nats per digit", "train/latent"),
            curves("entropy of q(c|x), nats per digit", "train/assignment"),
            curves("E[log p(c)], nats per digit", "train/prior_term"),
            curves("log q of the clusters that were found", "train/agreement"),
        ],
        "Learned weights": [curves("log weight of each cluster", *(f"log_weight/cluster_{k}" for k in CLUSTERS))],
        "Schedule": [curves("temperature", "epoch/temperature"), curves("learning rate", "epoch/learning_rate")],
    },
)

DISENTANGLEMENT = Dashboard(
    experiments=("disentanglement",),
    group_by=("method", "shared"),
    sections={"Scores, 1 is best": [bars(title, f"scores/{name}") for name, title in (SCORES | OTHER_SCORES).items()]},
)

DASHBOARDS = (KOLMOGOROV_SMIRNOV, URN, WEAK_SUPERVISION, CLUSTERING, DISENTANGLEMENT)
