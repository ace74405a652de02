"""What may be asked of a tensor."""

import torch
from torch import Tensor


def is_batched(tensor: Tensor) -> bool:
    """Whether ``tensor`` is a batch of values within torch.func.vmap, none of which can be looked at."""
    if torch.compiler.is_compiling():
        return False
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(tensor):
        if functorch.is_batchedtensor(tensor):
            return True
        tensor = functorch.get_unwrapped(tensor)
    return False


def may_be_read(tensor: Tensor) -> bool:
    """Whether values can be looked at and it costs nothing: on the host, not traced, not batched."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling() and not is_batched(tensor)
