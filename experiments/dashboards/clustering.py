"""Section 5.3: VaDE with three priors."""

from __future__ import annotations

from experiments.dashboards.dashboard import Bars, Curves, Dashboard

CLUSTERS = range(10)


def _curve(name: str, title: str) -> Curves:
    return Curves(title, (name,))


DASHBOARD = Dashboard(
    name="clustering",
    rooms=("clustering", "clustering_recipe", "clustering_pretraining"),
    group_by=("method", "row"),
    sections={
        "Scores": [
            _curve("epoch/test_accuracy", "test accuracy"),
            _curve("epoch/test_nmi", "test NMI"),
            _curve("epoch/test_ari", "test ARI"),
            Bars("at the end", ("test/accuracy", "test/nmi", "test/ari")),
            Bars("accuracy of the pretraining's clusters, training digits", ("found/accuracy",)),
        ],
        "Bound": [
            _curve("train/elbo", "bound, nats per digit"),
            _curve("train/reconstruction", "E[log p(x|z)], nats per digit"),
            _curve("train/latent", "E[log p(z|c)] - E[log q(z|x)], nats per digit"),
            _curve("train/assignment", "entropy of q(c|x), nats per digit"),
            _curve("train/prior_term", "E[log p(c)], nats per digit"),
        ],
        "Learned weights": [Curves("log weight of each cluster", tuple(f"log_weight/cluster_{k}" for k in CLUSTERS))],
        "Schedule": [_curve("epoch/temperature", "temperature"), _curve("epoch/learning_rate", "learning rate")],
    },
)
