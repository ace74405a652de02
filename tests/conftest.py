"""Settings for every test: one torch thread per pytest worker's share of the machine, global state put back."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch


def pytest_configure(config: pytest.Config) -> None:
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))


@pytest.fixture(autouse=True)
def restored_global_state() -> Iterator[None]:
    """A test may set the default dtype or seed the global generator without others noticing.

    torch.compile switches the validation of distributions' arguments off for the whole process.
    """
    dtype, state = torch.get_default_dtype(), torch.get_rng_state()
    validate = torch.distributions.Distribution._validate_args
    yield
    torch.distributions.Distribution.set_default_validate_args(validate)
    torch.set_default_dtype(dtype)
    torch.set_rng_state(state)
