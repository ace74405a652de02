"""Where the time of a training step goes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytorch_lightning as pl

from experiments.common.chunked import ChunkedTraining


class Laps(pl.Callback):
    """Splits the time of training among the functions it passes through; the first chunk is left out.

    The innermost of the watched functions that is being called gets the time. On a GPU the device is waited for at
    every change, so that the parts add up to more than an undisturbed step.

    Args:
        synchronize: waits for the device.
        rest: name of the part that gets the time outside of all watched functions.
    """

    def __init__(self, synchronize: Callable[[], None], rest: str) -> None:
        self.synchronize = synchronize
        self.seconds: dict[str, float] = defaultdict(float)
        self.steps = 0
        self.total: dict[str, float] = {}
        self._active = [rest]
        self._last = 0.0
        self._first_step: int | None = None

    def watch(self, trainer: pl.Trainer, module: ChunkedTraining) -> None:
        """Puts ``around`` and its like where the parts are; the trainer and the module aren't to be used after it."""
        raise NotImplementedError

    def enter(self, name: str) -> None:
        """From here on the time is ``name``'s."""
        self._lap()
        self._active.append(name)

    def leave(self) -> None:
        """Back to where the last ``enter`` was called."""
        self._lap()
        self._active.pop()

    def _lap(self) -> None:
        self.synchronize()
        now = time.perf_counter()
        self.seconds[self._active[-1]] += now - self._last
        self._last = now

    def around(self, owner: object, method: str, name: str) -> None:
        """Replaces a method of one object by itself with ``enter`` and ``leave`` around it."""
        function = getattr(owner, method)

        def timed(*arguments: Any, **keywords: Any) -> Any:
            self.enter(name)
            try:
                return function(*arguments, **keywords)
            finally:
                self.leave()

        setattr(owner, method, timed)

    def around_items(self, owner: object, method: str, name: str) -> None:
        """The same for a method whose items are made one at a time: the making of each is ``name``'s."""
        function = getattr(owner, method)

        def timed(*arguments: Any, **keywords: Any) -> Iterator[Any]:
            items: Iterable[Any] = function(*arguments, **keywords)
            iterator = iter(items)
            while True:
                self.enter(name)
                try:
                    item = next(iterator)
                except StopIteration:
                    return
                finally:
                    self.leave()
                yield item

        setattr(owner, method, timed)

    def around_optimizers(self, trainer: pl.Trainer, name: str) -> None:
        """Gives the optimizers' own steps to ``name``, without what Lightning does around them."""
        for optimizer in trainer.optimizers:
            optimizer.register_step_pre_hook(lambda *_: self.enter(name))
            optimizer.register_step_post_hook(lambda *_: self.leave())

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, ChunkedTraining)
        self.watch(trainer, pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, ChunkedTraining)
        self._lap()
        if self._first_step is None:
            self._first_step = pl_module.steps_taken
            self.seconds.clear()
        self.steps = pl_module.steps_taken - self._first_step
        self.total = dict(self.seconds)  # what the end of the epoch adds is no step's

    def milliseconds(self, parts: Sequence[str]) -> dict[str, float]:
        """Of one step, part by part."""
        return {name: 1e3 * self.total.get(name, 0.0) / self.steps for name in parts}
