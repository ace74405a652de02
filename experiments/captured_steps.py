"""Training steps as a CUDA graph: the host launches one step at a time instead of each of its kernels."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.accelerators import CUDAAccelerator
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

log = logging.getLogger("experiments")
_CAPTURING = threading.Lock()
_free_streams: defaultdict[int, list[torch.cuda.Stream]] = defaultdict(list)  # by GPU, of runs that have ended
WARM_UP = 3  # steps before the capture, in which libraries choose their algorithms and the optimizer makes its state

Inputs = tuple[Any, ...]  # tensors, and tuples of them


def capture(step: Callable[[], Tensor], generator: torch.Generator) -> Callable[[], Tensor]:
    """Captures a step, which isn't taken by that.

    Args:
        step: reads and writes the same memory whenever it is called; its random numbers are the generator's.
        generator: on the device.

    Returns:
        What takes the step, and returns the memory that holds its result until the next one.
    """
    graph, outside = torch.cuda.CUDAGraph(), generator.clone_state()
    graph.register_generator_state(generator)
    # The other runs of this process go on meanwhile, and each captures its own stream.
    captured = torch.cuda.graph(graph, stream=torch.cuda.current_stream(), capture_error_mode="thread_local")
    try:
        with _CAPTURING, captured:
            result = step()
    except BaseException:
        generator.graphsafe_set_state(outside)  # or it would take itself for one in a capture
        raise

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay


@contextmanager
def own_stream(accelerator: str, devices: Any) -> Iterator[None]:
    """A stream for what a run does on its GPU: one that CUDA can capture, and that waits for no other run's.

    A stream that is free is taken again: torch has 32 of them, and then gives the same ones out once more.
    """
    if accelerator == "cpu" or not torch.cuda.is_available():
        yield
        return
    index = devices[0] if isinstance(devices, list) else 0
    free = _free_streams[index]
    try:
        stream = free.pop()
    except IndexError:
        stream = torch.cuda.Stream(index)
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        free.append(stream)


class SharedGPU(CUDAAccelerator):
    """Lightning's GPU, but cuBLAS' workspaces are left alone: graphs of other runs of the process write to them.

    Lightning's own frees those of the whole process whenever a trainer begins or ends.
    """

    def setup(self, trainer: Trainer) -> None:
        self.set_nvidia_flags(trainer.local_rank)

    def teardown(self) -> None: ...


class CapturedSteps:
    """Takes steps through a CUDA graph once it is warm; steps whose inputs have other shapes are launched as usual.

    The first captured step is taken both ways from the same state. Where capturing fails or the results differ, all
    steps are launched as usual, and the log says why.

    Args:
        take: takes a step for its inputs and returns what is to be recorded; what else it reads stays where it is.
        state: the tensors that a step changes: parameters and the optimizer's.
        generator: of the random numbers drawn in a step.
    """

    def __init__(
        self, take: Callable[..., Tensor], state: Callable[[], Sequence[Tensor]], generator: torch.Generator
    ) -> None:
        self.take = take
        self.state = state
        self.generator = generator
        self.warm_up = WARM_UP
        self.buffers: Inputs | None = None
        self.replay: Callable[[], Tensor] | None = None

    def __call__(self, inputs: Inputs) -> Tensor:
        """Takes one step."""
        if self.warm_up > 0:
            self.warm_up -= 1
            return self.take(*inputs)
        if self.buffers is None:
            return self._first(inputs)
        if self.replay is None or _shapes(inputs) != _shapes(self.buffers):
            return self.take(*inputs)
        for buffer, value in zip(tree_leaves(self.buffers), tree_leaves(inputs), strict=True):
            buffer.copy_(value)
        return self.replay().clone()

    def _first(self, inputs: Inputs) -> Tensor:
        """Captures a step and takes it, through the graph and, from the same state, as usual."""
        buffers = self.buffers = tree_map(torch.clone, inputs)
        try:
            replay = capture(lambda: self.take(*buffers), self.generator)
        except Exception as error:  # whatever in the step, its libraries or the driver refuses
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            log.warning("  steps are launched kernel by kernel: CUDA can't capture one (%s)", reason)
            return self.take(*inputs)
        state, noise = self.state(), self.generator.get_state()
        before = [tensor.detach().clone() for tensor in state]
        replayed = replay().clone()
        after = [tensor.detach().clone() for tensor in state]
        with torch.no_grad():
            for tensor, value in zip(state, before, strict=True):
                tensor.copy_(value)
        self.generator.set_state(noise)
        launched = self.take(*inputs)
        if torch.allclose(replayed, launched, rtol=1e-3, atol=1e-5) and _close(before, after, state):
            self.replay = replay
        else:
            log.warning("  steps are launched kernel by kernel: a captured one came to another result")
        return launched


@torch.no_grad()
def _close(before: Sequence[Tensor], after: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    """Whether two ways from the same state led every tensor to about the same place; rounding may differ."""
    return all(
        (one - two).norm() <= 0.5 * (start - two).norm() for start, one, two in zip(before, after, other, strict=True)
    )


def _shapes(inputs: Inputs) -> list[torch.Size]:
    return [leaf.shape for leaf in tree_leaves(inputs)]
