"""Whole counts whose gradient is right to second order, without a temperature."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from mvhg import _fisher, _marginals, _moments
from mvhg._asked import check_selection, sample_size
from mvhg._once import once_only
from mvhg._relaxation import Selection
from mvhg._urn import Urn
from mvhg.distribution import MultivariateHypergeometric


class MultivariateHypergeometricSecondOrder(MultivariateHypergeometric):
    r"""Draws of the exact law with the second-order straight-through gradient of its expectations.

    A draw y (counts, one-hot vectors, prefix masks) gives a loss f(y) and its gradient f'(y). Of a difference of two
    losses, f(a) - f(b) = (f'(a) + f'(b)) . (a - b) / 2 holds exactly where f is quadratic (Heun's rule). Put into
    d E[f(Y)] = sum over y of d p(y) f(y), and averaged over where one stands, it gives the estimator

    .. math:: \tfrac12 f'(y) \cdot \big[ \nabla E[Y] + (y - E[Y]) \nabla \log p(y) \big],

    whose three ingredients this library has in closed form. So it is unbiased for every loss that is quadratic in the
    counts, or in vectors and masks jointly, which holds all products of two of their entries; elsewhere its bias is of
    third order, and can be larger than the straight-through one's. It costs the moments and, for vectors and masks, the
    marginals of the law. Bias and spread are measured in the project's gradient study. The estimator is ReinMax (Liu
    et al. 2023, "Bridging Discrete and Backpropagation: Straight-Through and Beyond") with this law's exact moments in
    place of those of one categorical variable. A second derivative raises RuntimeError.

    Arguments and errors are those of ``MultivariateHypergeometric``; conditionals must be exact.

    Example::

        >>> log_weights = torch.zeros(3, requires_grad=True)
        >>> urn = MultivariateHypergeometricSecondOrder(5, group_sizes=[3, 5, 4], log_weights=log_weights)
        >>> counts = urn.rsample()  # e.g. [1., 2., 2.]
        >>> counts[0].backward()
    """

    has_rsample = True

    def rsample(
        self, sample_shape: Sequence[int] = torch.Size(), *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Whole counts [sample_shape, batch, c] in the dtype of the weights, differentiable (once) in the weights.

        Args:
            sample_shape: shape of independent draws.
            generator: source of randomness on the weights' device; torch's default if None.

        Raises:
            NotImplementedError: for conditionals="merged", which has no closed form.
        """
        urn = self._differentiable("rsample")
        counts = self.sample(sample_shape, generator=generator).double()
        return self._with_gradient(counts, _moments.mean(urn), self._score(counts, urn))

    def rsample_selection(
        self, sample_shape: Sequence[int] = torch.Size(), *, generator: torch.Generator | None = None
    ) -> Selection:
        """Counts with their one-hot vectors over 0..M and prefix masks of length M, M the largest group size.

        Args:
            sample_shape: shape of independent draws.
            generator: source of randomness on the weights' device; torch's default if None.

        Returns:
            ``Selection`` of counts [sample, batch, c], one_hot [sample, batch, c, M + 1] and prefix_mask
            [sample, batch, c, M], groups in the order of ``group_sizes``.

        Raises:
            NotImplementedError: for conditionals="merged", which has no closed form.
            ValueError: for vectors of more than 2^33 entries, naming ``group_sizes``.
        """
        sample_shape = sample_size(sample_shape)
        check_selection(self._extended_shape(sample_shape), self._bounds.group)
        urn = self._differentiable("rsample_selection")
        counts = self.sample(sample_shape, generator=generator).double()
        score, chances = self._score(counts, urn), _marginals.marginal_log_probabilities(urn).exp()
        vectors = one_hot(counts.long(), chances.shape[-1]).double()

        def masks(vectors: Tensor) -> Tensor:  # P(count > k)
            return vectors.flip(-1).cumsum(-1).flip(-1)[..., 1:]

        parts = ((counts, _moments.mean(urn)), (vectors, chances), (masks(vectors), masks(chances)))
        return Selection(*(self._with_gradient(drawn, mean, score) for drawn, mean in parts))

    def _differentiable(self, quantity: str) -> Urn:
        self._exact_law(quantity)
        urn = self._given_law()._replace(bounds=self._bounds).relative()
        return urn._replace(log_weights=once_only(urn.log_weights)).with_tilt()

    def _score(self, counts: Tensor, urn: Urn) -> Tensor:
        """0 [...], whose derivative is that of log p."""
        log_probability = _fisher.log_probability(counts, urn, checked=True)
        return log_probability - log_probability.detach()

    def _with_gradient(self, drawn: Tensor, mean: Tensor, score: Tensor) -> Tensor:
        """``drawn``, of the expectation ``mean``, with the gradient of the class's docstring."""
        fixed = mean.detach()
        score = score.reshape(score.shape + (1,) * (drawn.dim() - score.dim()))
        return (drawn + ((mean - fixed) + (drawn - fixed) * score) / 2).to(self._dtype)
