"""Every dashboard."""

from __future__ import annotations

from experiments.dashboards import clustering, disentanglement, kolmogorov_smirnov, urn, weak_supervision

DASHBOARDS = (
    kolmogorov_smirnov.DASHBOARD,
    urn.DASHBOARD,
    weak_supervision.DASHBOARD,
    clustering.DASHBOARD,
    disentanglement.DASHBOARD,
)
