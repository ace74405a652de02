"""Exponential annealing of a temperature."""

import math
from typing import Any


class ExponentialAnnealing:
    """A temperature that falls exponentially from ``initial`` to ``final`` and then stays.

    temperature(t) = initial * exp(-r t) with r = (log initial - log final) / num_steps (paper, appendix C.2.3).

    Args:
        initial: temperature at step 0, positive.
        final: temperature from step ``num_steps`` on, positive.
        num_steps: number of annealing steps, at least 1.

    Raises:
        ValueError: for a temperature that is not positive and finite, or fewer than one step.

    Example::

        >>> schedule = ExponentialAnnealing(10.0, 0.01, num_steps=50_000)
        >>> schedule(0), round(schedule(25_000), 4), schedule(80_000)
        (10.0, 0.3162, 0.01)
    """

    def __init__(self, initial: float, final: float, num_steps: int) -> None:
        self.initial, self.final, steps = _number(initial), _number(final), _number(num_steps)
        for name, value, given in (("initial", self.initial, initial), ("final", self.final, final)):
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be a positive finite temperature, got {given!r:.80}")
        if not (1 <= steps < math.inf and steps == int(steps)):
            raise ValueError(f"num_steps must be a whole number, 1 or more, got {num_steps!r:.80}")
        self.num_steps = int(num_steps)

    def __call__(self, step: int) -> float:
        """The temperature at ``step`` (0 or more); raises ValueError for a negative step."""
        if not _number(step) >= 0:
            raise ValueError(f"step must be 0 or more, got {step!r:.80}")
        if step >= self.num_steps:
            return self.final
        rate = (math.log(self.initial) - math.log(self.final)) / self.num_steps
        return self.initial * math.exp(-rate * step)

    def __repr__(self) -> str:
        return f"ExponentialAnnealing(initial={self.initial}, final={self.final}, num_steps={self.num_steps})"


def _number(value: Any) -> float:
    """A number, infinity beyond what a float holds, and NaN for what is none."""
    try:
        return math.nan if isinstance(value, str) else float(value)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError, RuntimeError):
        return math.nan
