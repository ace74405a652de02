"""Exponential annealing of a temperature."""

import math


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
        for name, value in (("initial", initial), ("final", final)):
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be a positive finite temperature, got {value}")
        if not (math.isfinite(num_steps) and num_steps >= 1 and num_steps == int(num_steps)):
            raise ValueError(f"num_steps must be a whole number, 1 or more, got {num_steps}")
        self.initial = float(initial)
        self.final = float(final)
        self.num_steps = int(num_steps)

    def __call__(self, step: int) -> float:
        """The temperature at ``step`` (0 or more); raises ValueError for a negative step."""
        if not step >= 0:
            raise ValueError(f"step must be 0 or more, got {step}")
        if step >= self.num_steps:
            return self.final
        rate = (math.log(self.initial) - math.log(self.final)) / self.num_steps
        return self.initial * math.exp(-rate * step)

    def __repr__(self) -> str:
        return f"ExponentialAnnealing(initial={self.initial}, final={self.final}, num_steps={self.num_steps})"
