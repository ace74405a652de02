"""Settings of experiments: pydantic dataclasses, and how a section of the configuration becomes the object it names.

    @settings
    class TrainingSettings:
        steps: PositiveInt
        divergence: Literal["one_sided", "symmetric"] = "one_sided"

Values are taken as they are: 1.5 is no integer, "3" no number and true no 1. A check of several settings together
stands in ``__post_init__`` and raises a ValueError.
"""

from __future__ import annotations

import re
import signal
import sys
from argparse import ArgumentTypeError
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import hydra
from hydra.errors import InstantiationException
from omegaconf import OmegaConf
from pydantic import ConfigDict, Field, ValidationError, validate_call
from pydantic.dataclasses import dataclass
from typing_extensions import dataclass_transform

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Temperature = Annotated[float, Field(ge=1e-6, le=1e6)]  # of a relaxation: beyond, single precision has no slope

SEEDS = 2**32  # what NumPy and Lightning take is below
Seed = Annotated[int, Field(ge=0, lt=SEEDS)]

T = TypeVar("T")
_CONFIG = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
checked = validate_call(config=_CONFIG)  # of a constructor that is no dataclass: its settings, by their types


class ExperimentError(Exception):
    """Something the user can put right, a configuration, a folder or a damaged file: shown as one line."""


def one_line(error: BaseException) -> str:
    """Returns what an exception says, in one line; its name where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(Field,))
def settings(cls: type[T]) -> type[T]:
    """Makes a class a frozen dataclass whose keyword arguments are checked against their types."""
    return cast(type[T], dataclass(frozen=True, kw_only=True, config=_CONFIG)(cls))


def build(section: Mapping[str, Any], name: str = "experiment") -> Any:
    """Makes the object that ``_target_`` of a section names, and those of the sections within.

    The name of the section is for messages.

    Raises:
        ExperimentError: an unknown key, or a value that is refused; the message names it.
    """
    try:
        return hydra.utils.instantiate(dict(section), _convert_="all")
    except InstantiationException as error:
        found = re.search(r"full_key: (\S+)", str(error))
        place = f"{name}.{found[1]}" if found else name
        part = OmegaConf.select(OmegaConf.create(dict(section)), found[1]) if found else section
        cause = error.__cause__ or error
        if not isinstance(cause, ValidationError):
            raise ExperimentError(f"{place}: {one_line(cause)}") from error
        raise ExperimentError("; ".join(_problems(cause, place, hydra.utils.get_class(part["_target_"])))) from error


def check(made: type, values: Mapping[str, Any], name: str = "") -> None:
    """Checks plain values, by the names of its fields, against a settings class; the name is that of their section.

    Raises:
        ExperimentError: an unknown key, or a value that is refused; the message names it.
    """
    try:
        made(**values)
    except ValidationError as error:
        raise ExperimentError("; ".join(_problems(error, name, made))) from None


def _problems(error: ValidationError, place: str, made: type) -> Iterator[str]:
    """Yields what is wrong, in words, a line per key; of a union what each of its members says."""
    refused: dict[str, list[str]] = {}
    values = {}
    for one in error.errors():
        key = ".".join(str(part) for part in one["loc"] if not isinstance(part, str) or part.isidentifier())
        name = ".".join(filter(None, [place, key]))
        message = one["msg"][0].lower() + one["msg"][1:]
        if one["type"] == "unexpected_keyword_argument":
            allowed = ", ".join(field.name for field in fields(made)) if is_dataclass(made) else "see its class"
            yield f"{place}: unknown key {key}; allowed: {allowed}"
        elif one["type"] in ("missing", "missing_keyword_only_argument"):
            yield f"{name} is missing"
        elif one["type"] == "value_error":  # raised by a check of the class itself, which has named the key
            yield f"{name}: {message.removeprefix('value error, ')}"
        else:
            before = refused.setdefault(name, [])
            before.append(message.removeprefix("input should be ") if before else message)
            values[name] = one["input"]
    for name, messages in refused.items():
        yield f"{name}: {' or '.join(messages)}, got {values[name]!r}"


def typed_seed(text: str) -> int:
    """Returns a seed as it was typed.

    Raises:
        ArgumentTypeError: it is none that NumPy and Lightning take.
    """
    if not (text.isascii() and text.isdecimal() and int(text) < SEEDS):
        raise ArgumentTypeError(f"a seed is an integer in 0..{SEEDS - 1}, got {text!r}")
    return int(text)


def typed_path(text: str) -> Path:
    """Returns a path as it was typed, with the home folder in place of a "~" at its beginning.

    Raises:
        ArgumentTypeError: there is no such user.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ArgumentTypeError(f"there is no home folder {Path(text).parts[0]}") from None


@contextmanager
def one_line_errors(place: Path) -> Iterator[None]:
    """Ends a script with ``error: ...`` and status 1 where a user can put something right.

    Where the operating system names no file, the place is named.

    Raises:
        SystemExit: an ExperimentError or OSError came out of the block, or it was interrupted.
    """
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted; the same command begins again", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except ExperimentError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename or place}: {error.strerror or error}")


@contextmanager
def named_problems(name: str, problems: list[str]) -> Iterator[None]:
    """Notes why something can't be made of the collected metrics, instead of ending there."""
    try:
        yield
    except ExperimentError as error:
        problems.append(f"{name}: {error}")
    except OSError:  # of a folder that can't be written
        raise
    except KeyError as error:
        problems.append(f"{name}: the metrics have no column {error}")
    except Exception as error:  # lines that are not whole can break a room's own code in any way
        problems.append(f"{name}: the metrics can't be read ({one_line(error)})")
