"""Checks of settings, with messages that name the key."""

from __future__ import annotations

import math
from typing import Any


def require_integer(name: str, value: Any, lowest: int) -> None:
    """Refuses anything but an integer of at least ``lowest``; a bool is none.

    Raises:
        ValueError: with the name and the value.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
        raise ValueError(f"{name} must be an integer of at least {lowest}, got {value!r}")


def require_number(
    name: str, value: Any, lowest: float = 0.0, *, above: bool = False, largest: float = math.inf
) -> None:
    """Refuses anything but a finite number of at least ``lowest`` (``above``: more than it) and at most ``largest``.

    Raises:
        ValueError: with the name and the value.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < lowest or value > largest or (above and value == lowest):
        bounds = f"{'above' if above else 'at least'} {lowest:g}" + (
            f" and at most {largest:g}" if largest < math.inf else ""
        )
        raise ValueError(f"{name} must be a finite number {bounds}, got {value!r}")
