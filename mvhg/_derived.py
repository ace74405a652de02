"""Attributes that are made of others when they are asked for, unless the instance holds one of that name."""

from collections.abc import Callable
from typing import Any

from torch import Tensor


class Derived:
    """Made anew at each access."""

    def __init__(self, compute: Callable[[Any], Tensor]) -> None:
        self._compute, self.__doc__ = compute, compute.__doc__

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else self._compute(instance)


class Kept(Derived):
    """Made once; without the lock of functools.cached_property, which torch.compile cannot trace."""

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        value = self._compute(instance)
        instance.__dict__[self._compute.__name__] = value
        return value
