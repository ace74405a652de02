"""Figure 11: published disentanglement scores of trained models."""

from __future__ import annotations

from experiments.dashboards.dashboard import Bars, Dashboard

SCORES = {
    "beta_vae": "BetaVAE score",
    "factor_vae": "FactorVAE score",
    "mig": "MIG",
    "dci_disentanglement": "DCI disentanglement",
    "dci_completeness": "DCI completeness",
    "dci_informativeness": "DCI informativeness",
    "sap": "SAP",
    "modularity": "modularity",
    "downstream": "downstream accuracy",
}

DASHBOARD = Dashboard(
    name="disentanglement",
    rooms=("disentanglement",),
    group_by=("method", "shared"),
    sections={"Scores, 1 is best": [Bars(title, (f"scores/{score}",)) for score, title in SCORES.items()]},
)
