"""Settings are checked by their types, and a message names the key."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from experiments.settings import (
    ExperimentError,
    Positive,
    PositiveInt,
    Share,
    build,
    one_line_errors,
    settings,
    typed_path,
)
from tests.experiments.helpers import CHECKOUT

HERE = "tests.experiments.test_settings"


@settings
class Inner:
    steps: PositiveInt
    rate: Positive | None = None
    sizes: Sequence[int] = (1,)

    def __post_init__(self) -> None:
        if self.steps == 13:
            raise ValueError("steps must not be 13")


@settings
class Outer:
    inner: Inner
    kind: Literal["a", "b"] = "a"
    number: PositiveInt | Literal["all"] = "all"
    share: Share = 0.5
    more: Mapping[str, Inner] | None = None


class Plain:
    def __init__(self, *, value: int) -> None:
        if value < 0:
            raise ValueError(f"value must be at least 0, got {value}")


def outer(inner: Mapping[str, Any], more: Mapping[str, Any]) -> Any:
    return build({"_target_": f"{HERE}.Outer", "inner": {"_target_": f"{HERE}.Inner", "steps": 3, **inner}, **more})


def test_sections_become_the_objects_they_name() -> None:
    made = outer({"rate": 2, "sizes": [1, 2]}, {"more": {"x": {"_target_": f"{HERE}.Inner", "steps": 1}}})
    assert made == Outer(inner=Inner(steps=3, rate=2.0, sizes=[1, 2]), more={"x": Inner(steps=1)})
    with pytest.raises(AttributeError):
        made.kind = "b"


@pytest.mark.parametrize(
    ("inner", "more", "message"),
    [
        ({"steps": -1}, {}, "experiment.inner.steps: input should be greater than 0, got -1"),
        ({"steps": "x"}, {}, "experiment.inner.steps: input should be a valid integer, got 'x'"),
        ({"steps": "3"}, {}, "experiment.inner.steps: input should be a valid integer, got '3'"),
        ({"steps": True}, {}, "experiment.inner.steps: input should be a valid integer, got True"),
        ({"steps": 1.5}, {}, "experiment.inner.steps: input should be a valid integer, got 1.5"),
        ({"steps": 13}, {}, "experiment.inner: steps must not be 13"),
        ({"rate": float("nan")}, {}, "experiment.inner.rate: input should be a finite number, got nan"),
        ({"sizes": [1, "a"]}, {}, "experiment.inner.sizes.1: input should be a valid integer, got 'a'"),
        ({"stepz": 1}, {}, "experiment.inner: unknown key stepz; allowed: steps, rate, sizes"),
        ({}, {"kind": "c"}, "experiment.kind: input should be 'a' or 'b', got 'c'"),
        ({}, {"number": 0}, "experiment.number: input should be greater than 0 or 'all', got 0"),
        ({}, {"share": 2}, "experiment.share: input should be less than or equal to 1, got 2"),
        ({}, {"kind": "c", "share": 2}, "experiment.kind: input should be 'a' or 'b', got 'c'; experiment.share: "),
        ({}, {"inner": {"_target_": f"{HERE}.Inner"}}, "experiment.inner.steps is missing"),
        ({}, {"inner": {"_target_": f"{HERE}.Nothing"}}, f"experiment.inner: Error loading '{HERE}.Nothing'"),
        ({}, {"more": {"x": {"_target_": f"{HERE}.Plain", "value": -1}}}, "experiment.more.x: value must be at least"),
    ],
)
def test_what_is_refused_is_named(inner: dict[str, Any], more: dict[str, Any], message: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        outer(inner, more)
    assert str(caught.value).startswith(message)


def test_a_path_is_taken_as_typed_with_the_home_folder_for_its_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/jane")
    typed = ["~/a", "~", "b/~", "c"]
    assert [str(typed_path(text)) for text in typed] == ["/home/jane/a", "/home/jane", "b/~", "c"]
    with pytest.raises(ArgumentTypeError, match="there is no home folder ~nobody-here"):
        typed_path("~nobody-here/x")
    for script in (CHECKOUT / "scripts").glob("*.py"):
        assert "type=Path" not in script.read_text(), script


def test_scripts_end_with_one_line() -> None:
    with pytest.raises(SystemExit, match="error: wrong"), one_line_errors(Path("x")):
        raise ExperimentError("wrong")
    with pytest.raises(SystemExit, match="error: y: full"), one_line_errors(Path("x")):
        raise OSError(28, "full", "y")
    with pytest.raises(SystemExit, match="error: x: odd"), one_line_errors(Path("x")):
        raise OSError("odd")
