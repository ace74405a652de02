"""Where a run stands among those of its experiment: a point in the experiment's axes, and settings changed beside them.

``experiment=weak_supervision method=hgvae shared=3 experiment.training.final_temperature=0.1`` is the row with the axes
``method`` and ``shared`` and the changes ``training.final_temperature=0.1``. Which axes an experiment has stands in its
file under configs/experiment, as ``axes``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from experiments.configuration import compose, resolve
from experiments.settings import ExperimentError

_RUN = ("experiment", "profile", "seed")  # choose a run and change no setting of it
# How, where and under which words a run is made: keys that decide no number.
_PLACES = ("results", "data_directory", "threads", "runs_at_once", "logger", "trainer")
_WORDS = ("force", "job_type", "tags", "launcher", "objective", "sweep")
# Settings of an experiment that decide what is kept and when it pauses, not what comes out.
_BOOKKEEPING = ("checkpoint_every", "keep_model", "max_minutes")
# Which data an experiment takes is a choice like the profile, and a column of its tables.
_DATA = re.compile(r"profile\.\w+\.data")
# Where and how visibly a trainer runs; everything else in that section decides numbers.
_HARDWARE = ("accelerator", "graph", "devices", "num_nodes", "strategy", "enable_progress_bar", "enable_model_summary")
_AXIS_VALUE = re.compile(r"[\w.+-]+")  # it becomes part of a folder's name


@dataclass(frozen=True)
class Row:
    """A point in the axes of an experiment.

    Attributes:
        experiment: Name of the experiment.
        axes: Axis -> value, in the order of the experiment's file; an axis that the others leave without meaning is not
            among them.
        changes: Settings that differ from the experiment's own, such as ``training.steps=10``; empty for none.
    """

    experiment: str
    axes: Mapping[str, str | int]
    changes: str = ""

    @property
    def label(self) -> str:
        """For readers, for example ``weak_supervision method=hgvae shared=3``."""
        return " ".join([self.experiment, *self._pairs, *([self.changes] if self.changes else [])])

    @property
    def folder(self) -> str:
        """Of its runs, for example ``weak_supervision/method=hgvae,shared=3``; changes stand in the runs' ids alone."""
        return "/".join([self.experiment, ",".join(self._pairs) or "all"])

    @property
    def _pairs(self) -> list[str]:
        return [f"{axis}={value}" for axis, value in self.axes.items()]


def row_of(plain: Mapping[str, Any], experiment: str, overrides: Sequence[str] = ()) -> Row:
    """Returns the row that a resolved configuration makes.

    Args:
        plain: The resolved configuration.
        experiment: Name of the experiment, the file under configs/experiment.
        overrides: The command line's overrides, from which the changes are.

    Raises:
        ExperimentError: an axis has no single plain value.
    """
    axes = {axis: plain[axis] for axis in plain["axes"] if axis in plain}
    for axis, value in axes.items():
        if isinstance(value, bool) or not isinstance(value, str | int) or not _AXIS_VALUE.fullmatch(str(value)):
            raise ExperimentError(f"{axis} must be one name or integer, got {value!r}")
    return Row(experiment, axes, changes_of(plain, overrides))


def run_id(plain: Mapping[str, Any], row: Row) -> str:
    """Returns twelve hex digits of the hash of what decides the numbers.

    Paths, logger, launcher, ``force`` and hardware don't enter; experiment, axes, the profile's name, the seed, the
    experiment's settings and the trainer's do.
    """
    decisive = {"row": [row.experiment, dict(row.axes)], **_decisive(plain)}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:12]


def changes_of(plain: Mapping[str, Any], overrides: Sequence[str]) -> str:
    """Returns the settings given by some overrides that differ from what comes out without them, as canonical text.

    ``experiment.`` is left out before the keys, which are sorted; a whole number has no decimals. Settings that come to
    the run's own are none.

    Args:
        plain: The resolved configuration.
        overrides: The command line's.
    """
    neutral, changing = [], set()
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.key_or_group
        if key in (*_RUN, *plain["axes"]) or decides_no_number(key) or _DATA.fullmatch(key):
            neutral.append(str(override.input_line))
        else:
            changing.add(key)
    if not changing:
        return ""
    own = resolve(compose(*neutral))
    if _decisive(own) == _decisive(plain):
        return ""
    with_them, without = OmegaConf.create(dict(plain)), OmegaConf.create(own)
    words = []
    for key in sorted(changing):
        value = _canonical(OmegaConf.select(with_them, key))
        if value != _canonical(OmegaConf.select(without, key)):
            words.append(f"{key.removeprefix('experiment.')}={_text(value)}")
    return " ".join(words)


def decides_no_number(key: str) -> bool:
    """Whether a key of the command line says where, how or under which words a run is made, and not what comes out."""
    if key in (*_PLACES, *_WORDS, *(f"trainer.{name}" for name in _HARDWARE)):
        return True
    return key.startswith("logger.") or key.split(".")[-1] in _BOOKKEEPING


def _decisive(plain: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the numbers of a run beside its row."""
    decisive = {
        "profile": plain["profile"]["name"],
        "seed": plain["seed"],
        "experiment": {key: value for key, value in plain["experiment"].items() if key not in _BOOKKEEPING},
        "trainer": {
            key: value for key, value in plain["trainer"].items() if key not in _HARDWARE and key != "precision"
        },
    }
    if plain["trainer"]["precision"] != "float32":
        decisive["trainer"]["precision"] = plain["trainer"]["precision"]
    return {key: _canonical(value) for key, value in decisive.items()}


def _canonical(value: Any) -> Any:
    """Makes 1.0 and 1 the same."""
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value)
    if isinstance(value, Mapping):
        return {str(key): _canonical(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
