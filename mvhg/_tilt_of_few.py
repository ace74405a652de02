"""The tilt of few urns on the host, in Python's floats: a fixed cost of some hundred tensor operations is saved."""

import math
from collections.abc import Sequence

# Stands for nothing drawn or nothing left, where the tilt is infinite: what it leaves in the tail is below 1e-20.
NOTHING = 1e-25
MOST_STEPS = 60


def tilt_of_one(
    sizes: Sequence[float], log_weights: Sequence[float], total: float, tolerance: float, furthest: float
) -> float:
    """The theta at which sum_j size_j sigmoid(theta + log_weight_j) = total, as ``_tilt.solve_tilt`` finds it.

    Args:
        sizes: of the groups.
        log_weights: of the groups; NaN gives NaN.
        total: 0 <= total <= sum of sizes.
        tolerance: of the sum, in standard deviations.
        furthest: bound on the absolute value of the tilt.
    """
    population = sum(sizes)
    if not population:
        return 0.0
    # What is left is what is drawn, for weights 1 / omega.
    sign = -1.0 if 2 * total > population else 1.0
    groups = [(m, sign * w) for m, w in zip(sizes, log_weights, strict=True) if m]
    if not all(math.isfinite(w) for _, w in groups):
        return math.nan
    less = max(min(total, population - total), NOTHING)
    odds = math.log(less / (population - less))
    least, most = min(w for _, w in groups), max(w for _, w in groups)
    low, high = max(odds - most, -furthest), min(odds - least, furthest)
    merged = most + math.log(sum(m * math.exp(w - most) for m, w in groups) / population)
    theta = max(low, min(high, odds - merged))
    enough = 1e-9 * min(less, 1.0)
    for _ in range(MOST_STEPS):
        mean = variance = rare = whole = 0.0
        for m, w in groups:
            logit = theta + w
            small = math.exp(-abs(logit))
            opposite = m / (1 + small)
            small *= opposite
            variance += small * (opposite / m)
            # Of groups that are mostly drawn what is left is counted: it would cancel.
            if logit > 0:
                mean += opposite
                rare -= small
                whole += m
            else:
                mean += small
                rare += small
        error = rare - (less - whole)
        if abs(error) <= tolerance * math.sqrt(variance) + enough:
            break
        # Newton's method on the logarithm of the sum.
        mean = max(mean, 1e-300)
        ratio = math.log1p(error / less) if error > -0.5 * less else math.log(mean / less)
        newton = theta - ratio * (mean / max(variance, 1e-300))
        if error < 0:
            low = theta
        else:
            high = theta
        # A step that leaves the bracket by more than rounding is a plateau: bisect there.
        slack = 1e-12 * (1 + abs(theta))
        theta = newton if low - slack <= newton <= high + slack else 0.5 * (low + high)
    return sign * theta
