"""Fixtures that several files of the library's tests ask for by name."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library as on an accelerator: no value may be looked at."""
    for module in [module for name, module in sys.modules.items() if name.startswith("mvhg.")]:
        if hasattr(module, "can_look"):
            monkeypatch.setattr(module, "can_look", lambda *tensors: False)


@pytest.fixture(params=["looking", "blind"])
def sight(request: pytest.FixtureRequest) -> None:
    """With and without a look at values."""
    if request.param == "blind":
        request.getfixturevalue("blind")
