"""Section 5.2: VAEs of image pairs."""

from __future__ import annotations

from experiments.dashboards.dashboard import Bars, Curves, Dashboard


def _curve(name: str, title: str) -> Curves:
    return Curves(title, (f"train/{name}",))


DASHBOARD = Dashboard(
    name="weak_supervision",
    rooms=("weak_supervision", "weak_supervision_ablation"),
    group_by=("method", "shared"),
    sections={
        "Number of independent latents": [
            _curve("expected_count", "E[k-hat], latents"),
            _curve("drawn_count", "k-hat of one draw, latents"),
            _curve("posterior_count", "posterior mean of k (EvidenceHGVAE), latents"),
            Bars("(E[k-hat] - k) squared, test pairs", ("test/count_error",)),
            Bars("E[k-hat], test pairs", ("test/expected_count",)),
        ],
        "Bound": [
            _curve("bound", "bound, nats per image"),
            _curve("reconstruction", "reconstruction, nats per image"),
            _curve("divergence", "divergence, nats per image"),
        ],
        "Weights and temperature": [
            _curve("temperature", "temperature"),
            _curve("log_weight_difference", "log weight, independent - shared (HGVAE)"),
            _curve("weights_gradient", "gradient norm of the dense layer (HGVAE)"),
            _curve("log_weight", "log weight (EvidenceHGVAE)"),
            _curve("selection_divergence", "KL of the drawn sets from their prior, nats (EvidenceHGVAE)"),
        ],
        "Accuracy (Table 1)": [
            Bars("shared latents", ("test/shared_accuracy",)),
            Bars("independent latents", ("test/independent_accuracy",)),
        ],
    },
)
