"""Kullback-Leibler divergence between two multivariate hypergeometric distributions."""

from torch import Tensor
from torch.distributions import register_kl

from mvhg import _fisher
from mvhg._validation import broadcast_shapes, require_values
from mvhg.distribution import MultivariateHypergeometric
from mvhg.relaxed import MultivariateHypergeometricStraightThrough, RelaxedMultivariateHypergeometric


@register_kl(MultivariateHypergeometric, MultivariateHypergeometric)
def kl_hypergeometric(p: MultivariateHypergeometric, q: MultivariateHypergeometric) -> Tensor:
    """KL(p || q) [...] in nats: an exponential family, so E_p[X] . (log omega_p - log omega_q) - log P_0p + log P_0q.

    Raises:
        ValueError: if the urns or the numbers of draws differ.
        NotImplementedError: for merged conditionals or soft counts.
    """
    for law in (p, q):
        soft = isinstance(law, RelaxedMultivariateHypergeometric)
        if soft and not isinstance(law, MultivariateHypergeometricStraightThrough):
            raise NotImplementedError("soft counts have no density in closed form, hence no KL divergence")
    try:
        broadcast_shapes(p.batch_shape, q.batch_shape)
        fits = p.event_shape == q.event_shape
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            "KL divergence needs the same groups and batch shapes that broadcast, got batch and event shapes "
            f"{tuple(p.batch_shape)}, {tuple(p.event_shape)} and {tuple(q.batch_shape)}, {tuple(q.event_shape)}"
        )
    if not _same_urn(p, q):
        raise ValueError(
            "KL divergence needs the same total_count and group_sizes on both sides, got total_count "
            f"{_shown(p.total_count)} and {_shown(q.total_count)}, group_sizes {_shown(p.group_sizes)} and "
            f"{_shown(q.group_sizes)}"
        )
    bounds = p._known_bounds or q._known_bounds  # the urn is one, and what is known of it holds for both
    laws = (law._exact_law("KL divergence")._replace(bounds=bounds) for law in (p, q))
    return _fisher.divergence(*laws).to(p._dtype)


def _same_urn(p: MultivariateHypergeometric, q: MultivariateHypergeometric) -> bool:
    for known in (p._known_bounds, q._known_bounds):
        if known is None or known.sizes is None or known.totals is None:
            require_values(*(values for law in (p, q) for values in (law.group_sizes, law.total_count)))
            same = (p.group_sizes == q.group_sizes).all() & (p.total_count == q.total_count).all()
            return bool(same)
    return p._known_bounds == q._known_bounds


def _shown(values: Tensor) -> str:
    text = str(values.tolist())
    return text if len(text) <= 80 else text[:80] + "..."
