"""Where a run stands: a point in the axes of its experiment, settings changed beside them, its profile and seed.

``experiment=weak_supervision method=hgvae shared=3 experiment.training.final_temperature=0.1`` is the row with the axes
``method`` and ``shared`` and the changes ``training.final_temperature=0.1``. Which axes an experiment has stands in its
file under configs/experiment, as ``axes``. All of it is known before anything heavy is imported.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from experiments.configuration import Bookkeeping, axes_of, compose, leaves, resolve
from experiments.settings import ExperimentError
from experiments.store import RunDirectory

_RUN = ("experiment", "profile", "seed")  # choose a run and change no setting of it
# How, where and under which words a run is made: keys that decide no number.
_PLACES = ("results", "data_directory", "threads", "runs_at_once", "logger", "trainer")
_WORDS = ("force", "job_type", "tags", "launcher", "objective", "sweep")
_BOOKKEEPING = tuple(field.name for field in fields(Bookkeeping))  # settings of an experiment that decide no number
_DECISIVE_OF_TRAINER = ("trainer.deterministic", "trainer.precision")  # the others say where it runs
# Which data an experiment takes is a choice like the profile, and a column of its tables.
_DATA = "experiment.data.source"
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


@dataclass(frozen=True)
class Cell:
    """One run that a command asks for: a row with profile and seed.

    Attributes:
        row: Its row.
        plain: Its resolved configuration.
        run: Its folder.
        replaced: Key below ``experiment``, or of the trainer, of a changed setting -> the value that it has unchanged.
    """

    row: Row
    plain: dict[str, Any]
    run: RunDirectory
    replaced: Mapping[str, Any]

    @property
    def name(self) -> str:
        """For messages, for example ``urn estimator=exact seed=0``."""
        return f"{self.row.label} seed={self.plain['seed']}"


def cell_of(config: DictConfig, experiment: str, overrides: Sequence[str] = ()) -> Cell:
    """Returns the cell of a composed configuration.

    Args:
        config: As Hydra composes it.
        experiment: Name of the experiment; Hydra's ``runtime.choices["experiment"]``.
        overrides: The command line's, from which the changes are.

    Raises:
        ExperimentError: a setting is refused, or an axis has no single plain value.
    """
    plain = resolve(config)
    _refuse_profile_settings(config, overrides)
    axes = {axis: plain[axis] for axis in plain["axes"] if axis in plain}
    for axis, value in axes.items():
        if isinstance(value, bool) or not isinstance(value, str | int) or not _AXIS_VALUE.fullmatch(str(value)):
            raise ExperimentError(f"{axis} must be one name or integer, got {value!r}")
        if isinstance(value, str) and _is_number(value):  # another row, of the same numbers
            raise ExperimentError(
                f"{axis} must be one name or integer: write {float(value):g}, not {value!r}, which is text"
            )
    changes = changes_of(plain, overrides)
    row = Row(experiment, axes, " ".join(f"{key}={value}" for key, (value, _) in changes.items()))
    replaced = {key: default for key, (_, default) in changes.items()}
    return Cell(row, plain, RunDirectory(Path(plain["results"]), row.folder, run_id(plain, row)), replaced)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _refuse_profile_settings(config: DictConfig, overrides: Sequence[str]) -> None:
    """Refuses settings of the profile: a run has one name, by the experiment's own, which read them."""
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if key.startswith("profile."):
            unresolved = leaves(OmegaConf.to_container(config.experiment), "experiment")
            readers = [f"{name}={value}" for name, text in unresolved if f"${{{key}}}" in str(text)]
            instead = f"give {' '.join(readers)}" if readers else "nothing here reads it"
            raise ExperimentError(f"{override}: a profile is taken as it is; {instead}")


def run_id(plain: Mapping[str, Any], row: Row) -> str:
    """Returns twelve hex digits of the hash of what decides the numbers.

    Paths, logger, launcher, ``force`` and hardware don't enter; experiment, axes, the profile's name, the seed, the
    experiment's settings and the trainer's precision do.
    """
    decisive = {"row": [row.experiment, dict(row.axes)], **_decisive(plain)}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:12]


def trained_run_id(experiment: str, *, _root_: DictConfig) -> str:
    """Returns the id of the run that this command makes of another experiment, whose trained model it starts from.

    A configuration asks for it by ``${trained_run:EXPERIMENT}``. The other run has the same values of its axes, the
    same settings where both have them, and the same profile, seed and trainer. So its id is part of the asking run's
    settings, and of its own id: a model that is trained differently is scored again.
    """
    axes = [axis for axis in axes_of(experiment) if axis in _root_]
    config = copy.deepcopy(compose(f"experiment={experiment}", *(f"{axis}={_root_[axis]}" for axis in axes)))
    with open_dict(config):
        for section in ("profile", "seed", "trainer"):
            config[section] = _root_[section]
        for key in config.experiment:
            if key != "_target_" and key in _root_.experiment:
                config.experiment[key] = copy.deepcopy(_root_.experiment._get_node(key))
    return cell_of(config, experiment).run.path.name


OmegaConf.register_new_resolver("trained_run", trained_run_id, replace=True)


def changes_of(plain: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, tuple[str, Any]]:
    """Returns the settings given by some overrides that differ from what comes out without them.

    Returns:
        Key, sorted, without ``experiment.`` -> its value as canonical text, where a whole number has no decimals, and
        the value that it has without the overrides. Settings that come to the run's own are none.
    """
    neutral, changing = [], set()
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.key_or_group
        if key in (*_RUN, *plain["axes"]) or decides_no_number(key) or key == _DATA:
            neutral.append(str(override.input_line))
        else:
            changing.add(key)
    if not changing:
        return {}
    own = resolve(compose(*neutral))
    if _decisive(own) == _decisive(plain):
        return {}
    with_them, without = OmegaConf.create(dict(plain)), OmegaConf.create(own)
    changes = {}
    for key in sorted(changing):
        value, default = (_canonical(OmegaConf.select(config, key)) for config in (with_them, without))
        if value != default:
            text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
            changes[key.removeprefix("experiment.")] = (text, default)
    return changes


def decides_no_number(key: str) -> bool:
    """Whether a key of the command line says where, how or under which words a run is made, and not what comes out."""
    section, _, last = key.rpartition(".")
    if section == "trainer":
        return key not in _DECISIVE_OF_TRAINER
    return key in (*_PLACES, *_WORDS) or section == "logger" or last in _BOOKKEEPING


def _decisive(plain: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the numbers of a run beside its row."""
    trainer = {key: plain["trainer"][key] for key in ("deterministic", "precision")}
    if trainer["precision"] == "float32":
        del trainer["precision"]
    decisive = {
        "profile": plain["profile"]["name"],
        "seed": plain["seed"],
        "experiment": {key: value for key, value in plain["experiment"].items() if key not in _BOOKKEEPING},
        "trainer": trainer,
    }
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
