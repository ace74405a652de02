"""Refuses, before Hydra starts, what Hydra would refuse with a long list or a riddle, or take for something else."""

from __future__ import annotations

import os
import re
from argparse import ArgumentTypeError
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, Transformer
from hydra.errors import HydraException
from omegaconf import OmegaConf

from experiments.axes import decides_no_number
from experiments.configuration import CONFIGS, axes_of, choices, experiments
from experiments.settings import ExperimentError, typed_path

_MULTIRUN = {"-m", "--multirun"}
_SHOWING = {"-i", "--info", "-c", "--cfg"}  # what one run would be
_ASKING = _SHOWING | {"-h", "--help", "--hydra-help", "--version"}  # start no run
_WITH_VALUE = _SHOWING | {"-p", "--package"}  # after "=" or, of some, as the next word
_OPTIONS = {*_MULTIRUN, *_ASKING, *_WITH_VALUE, "--resolve"}
FOLDERS = {"results": "MVHG_RESULTS_DIR", "data_directory": "MVHG_DATA_DIR"}  # settings, and variables instead of them
_HYDRA = ("hydra.launcher.", "hydra.sweeper.")  # of its own settings, those that may be given
_ABSENT = object()
_NOT_SET = {
    "axes": "the experiment's file names them",
    "profile.name": "choose with profile=NAME",
    "experiment.trained_run": "it is the run of the same method, settings, profile and seed",
}


def check_command_line(arguments: Sequence[str]) -> list[str]:
    """Looks at options, the form of settings, and the names of experiments, axes, launchers, profiles and the like.

    Where several runs are asked for, the results folder is made: Hydra would fail with a stack trace.

    Returns:
        The arguments for Hydra, -m first, with the home folder in place of a "~" at the beginning of a value.

    Raises:
        ExperimentError: an unknown option, or two that exclude each other; a setting that can't be read, is given
            twice, is none, or has several values where it takes one; there is no such experiment or choice; an
            experiment lacks an axis that is given; the launcher isn't installed or not one of the project's; the
            results folder can't be made.
    """
    options, settings = _options_and_settings(arguments)
    expanded = {text: _with_home(text) for text in settings}
    given: dict[str, Override] = {}
    for text in settings:
        one = _parsed(expanded[text])
        if one.key_or_group in given:
            raise ExperimentError(f"{text}: {one.key_or_group} is given twice")
        given[one.key_or_group] = one
    several, asking = bool(_MULTIRUN & set(options)) or "sweep" in given, bool(_ASKING & set(options))
    for key, one in given.items():
        _check_setting(key, one)
        _check_choices(key, one)
        if one.is_sweep_override():
            _check_several(key, one, several)
    chosen = _values(given["experiment"], experiments()) if "experiment" in given else []
    if "sweep" in given:
        chosen = _swept_experiment(_values(given["sweep"], [])[0], chosen)
    if chosen:
        plain = {key: _values(one, choices(key)) for key, one in given.items() if "." not in key}
        _check_axes(plain, chosen)
        others = [one for key, one in given.items() if not choices(key)]
        _check_owners(others, plain, chosen[0])
        _check_followers(others, chosen[0])
    elif "experiment" not in given and not asking:
        raise ExperimentError(f"choose an experiment with experiment=NAME, one of: {', '.join(experiments())}")
    if not asking:
        _check_launcher(given, several)
    _check_folders(given, several)
    ordered = sorted(arguments, key=lambda argument: argument not in _MULTIRUN)  # Hydra wants its settings in one piece
    return [expanded.get(argument, argument) for argument in ordered]


def _options_and_settings(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    options, settings = [], []
    remaining = iter(arguments)
    for argument in remaining:
        name, equals, _ = argument.partition("=")
        if not argument.startswith("-"):
            settings.append(argument)
        elif name not in _OPTIONS or (equals and name not in _WITH_VALUE):
            raise ExperimentError(
                f"{argument}: there is no such option; settings have no hyphens before them, as in experiment=urn, and "
                "-m asks for several runs"
            )
        else:
            options.append(name)
            if name in ("-c", "--cfg", "-p", "--package") and not equals:
                next(remaining, None)
    ways = {name.strip("-")[0]: name for name in options if name in _MULTIRUN | _SHOWING}  # Hydra takes one
    if len(ways) > 1:
        words = " and ".join(ways.values())
        raise ExperimentError(f"{words}: leave one out; -c and -i show what one run would be, -m starts many")
    return options, settings


def _with_home(text: str) -> str:
    key, _, value = text.partition("=")
    quote = value[:1] if value[:1] in ("'", '"') else ""  # which may keep a comma
    plain = value.strip("'\"")
    if not re.match(r"~[\w.-]*(/|$)", plain):
        return text
    try:
        return f"{key}={quote}{typed_path(plain)}{quote}"
    except ArgumentTypeError as error:
        raise ExperimentError(f"{text}: {error}") from None


def _parsed(text: str) -> Override:
    if not text.strip("+~").partition("=")[0]:
        raise ExperimentError(f"{text!r}: settings are given as KEY=VALUE")
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ExperimentError(
            f"{text}: can't be read as KEY=VALUE ({reason}); quotes keep special characters"
        ) from None


def _values(one: Override, known: Sequence[str]) -> list[str]:
    """The values of a setting, as text; of a glob, those among the known ones."""
    value: Any = one.value()
    if isinstance(value, Glob):
        return value.filter(list(known))
    if one.is_sweep_override():
        try:
            return [str(each) for each in one.sweep_iterator(transformer=Transformer.str)]
        except HydraException:  # an interval, which has no list of values
            return [str(one.get_value_string())]
    return [one.get_value_string() if value is None or isinstance(value, list | dict) else str(value)]


def _check_setting(key: str, one: Override) -> None:
    """Refuses what is no setting of a run, though Hydra would take it."""
    text = one.input_line
    if one.is_add() or one.is_force_add() or one.is_delete():
        raise ExperimentError(
            f"{text}: keys can't be added or removed, though Hydra may advise a +; configs/config.yaml and the "
            "experiment's own file list what there is"
        )
    if key in _NOT_SET:
        raise ExperimentError(f"{text}: {key} is no setting; {_NOT_SET[key]}")
    if key == "hydra/launcher":
        raise ExperimentError(f"{text}: choose with launcher=serial, local, slurm, slurm_local or ray")
    if re.match(r"hydra\b", key) and not key.startswith(_HYDRA):
        raise ExperimentError(
            f"{text}: of Hydra's own settings only hydra.launcher.* and hydra.sweeper.* can be given; results=FOLDER "
            "says where files go"
        )
    value = one.value()
    if any(isinstance(each, dict) for each in (value.list if isinstance(value, ChoiceSweep) else [value])):
        raise ExperimentError(f"{text}: settings are given one by one, as in {key}.NAME=VALUE")
    if one.package is not None:
        raise ExperimentError(f"{text}: choices have no packages here; give {key}=NAME")


def _check_choices(group: str, one: Override) -> None:
    known = choices(group) if re.fullmatch(r"\w+", group) else []
    values = _values(one, known) if known else []
    commands = [_new_command(name) for name in values] if group == "experiment" else []
    if any(commands):
        raise ExperimentError(f"experiment={','.join(values)} is now: {'; '.join(one for one in commands if one)}")
    for name in values:
        if name.startswith("["):
            raise ExperimentError(f"{group}={name}: a run takes one; several with commas, and -m, make several runs")
        if name not in known:
            near = get_close_matches(name, known, n=3)
            hint = f"near it: {', '.join(near)}" if near else f"choose from {', '.join(known)}"
            what = "experiment" if group == "experiment" else "choice"
            raise ExperimentError(f"{group}={name}: there is no such {what}; {hint}")
        own = "name" if group == "profile" else group
        said = _value_in(CONFIGS / group / f"{name}.yaml", own)
        if said != name and (group == "profile" or any(group in axes_of(one) for one in experiments())):
            path = f"configs/{group}/{name}.yaml"
            there = "has no" if said is _ABSENT else f"says {own}: {said} for"
            raise ExperimentError(f"{path} {there} {own}: {name}, by which its runs are told from others")
    if group == "launcher" and "ray" in values and find_spec("hydra_plugins.hydra_ray_launcher") is None:
        raise ExperimentError("launcher=ray needs the extra `ray`, which is not installed: make install-ray")


def _check_several(key: str, one: Override, several: bool) -> None:
    if not several:
        raise ExperimentError(f"{one.input_line}: several values make several runs: give -m, too")
    if decides_no_number(key):
        raise ExperimentError(f"{one.input_line}: {key} makes no other run; give each value a command of its own")


def _check_launcher(given: Mapping[str, Override], several: bool) -> None:
    """Refuses what launches cells where there is one, and two ways at once; Hydra would leave one out silently."""
    typed = {key: _values(given[key], [])[0] for key in ("launcher", "runs_at_once") if key in given}
    launcher, at_once = typed.get("launcher", "serial"), typed.get("runs_at_once", "1")
    if launcher != "serial" and not several:
        raise ExperimentError(f"launcher={launcher} launches the cells of a multirun: give -m, too")
    if at_once == "1":
        return
    if not several:
        raise ExperimentError(f"runs_at_once={at_once} is about the cells of a multirun: give -m, too")
    if launcher != "serial":
        raise ExperimentError(
            f"runs_at_once={at_once} shares one process, and launcher={launcher} gives each cell its own: leave one of "
            "them out"
        )


def _check_folders(given: Mapping[str, Override], several: bool) -> None:
    for key in set(FOLDERS) & set(given):
        if not str(given[key].value() or "").strip():
            raise ExperimentError(f"{given[key].input_line}: give a folder")
    results = Path(
        _values(given["results"], [])[0] if "results" in given else os.environ.get(FOLDERS["results"], "results")
    )
    try:
        if several:
            (results / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExperimentError(
            f"the results folder {results} can't be written ({error.strerror}); choose another one with results=FOLDER "
            "or MVHG_RESULTS_DIR"
        ) from None


def _new_command(name: str) -> str | None:
    """The arguments that run now what a row of earlier versions was; None for a name that none had."""
    for pattern, command in _content(CONFIGS / "former_rows.yaml").items():
        if match := re.fullmatch(pattern, name):
            return match.expand(command)
    return None


def _check_axes(given: Mapping[str, Sequence[str]], chosen: Sequence[str]) -> None:
    every = {axis for name in experiments() for axis in axes_of(name)}
    for axis in sorted(every & set(given)):
        typed = f"{axis}={','.join(given[axis])}"
        for name in chosen:
            axes = axes_of(name)
            if axis not in axes:
                raise ExperimentError(f"{typed}: experiment={name} has no axis {axis}; its axes: {', '.join(axes)}")
        if len(chosen) > 1 and len(given[axis]) == 1:  # Hydra would apply it before it knows the experiment
            raise ExperimentError(f"{typed} with several experiments: give each a command of its own")


def _check_owners(settings: Sequence[Override], given: Mapping[str, Sequence[str]], experiment: str) -> None:
    """Refuses a setting that belongs to some choices of an axis, where another one or another experiment is given."""
    own, fixed = axes_of(experiment), _fixed_choices(experiment)
    every = dict.fromkeys([*own, *(axis for name in experiments() for axis in axes_of(name))])
    for one in settings:
        key = one.key_or_group
        if _value_in(CONFIGS / "experiment" / f"{experiment}.yaml", key) is not _ABSENT:
            continue
        owners = {
            axis: [name for name in choices(axis) if _value_in(CONFIGS / axis / f"{name}.yaml", key) is not _ABSENT]
            for axis in every
        }
        for axis in [axis for axis, names in owners.items() if names]:
            if axis in own:
                places = [f"{axis}={value}" for value in given.get(axis, ()) if value not in owners[axis]]
            else:
                has = any(owners[each] for each in own) or set(owners[axis]) & set(fixed.get(axis, ()))
                places = [] if has else [f"experiment={experiment}"]
            for place in places:
                names = " or ".join(owners[axis])
                raise ExperimentError(f"{one.input_line}: {place} has no {key}; {axis}={names} has")


def _fixed_choices(experiment: str) -> dict[str, list[str]]:
    """Choices that an experiment's own file takes, of groups that are no axes of it."""
    defaults = _content(CONFIGS / "experiment" / f"{experiment}.yaml").get("defaults", ())
    taken = [pair for one in defaults if isinstance(one, dict) for pair in one.items()]
    return {group.rpartition("/")[2]: one if isinstance(one, list) else [one] for group, one in taken}


def _check_followers(settings: Sequence[Override], experiment: str) -> None:
    """Refuses a setting that is another one's value: the row would say one thing, and the run do another."""
    axes = axes_of(experiment)
    paths = [CONFIGS / "experiment" / f"{experiment}.yaml"]
    paths += [CONFIGS / axis / f"{choice}.yaml" for axis in axes for choice in choices(axis)]
    for one, path in product(settings, paths):
        leader = re.fullmatch(r"\$\{([\w.]+)\}", str(_value_in(path, one.key_or_group)))
        if leader and (leader[1] in axes or leader[1].startswith("experiment.")):
            raise ExperimentError(f"{one.input_line}: it is what {leader[1]} is; give {leader[1]}=VALUE")


def _swept_experiment(sweep: str, chosen: list[str]) -> list[str]:
    """The experiment whose settings a sweep is over, if its file says so."""
    key, defaults = "override /experiment", _content(CONFIGS / "sweep" / f"{sweep}.yaml").get("defaults", ())
    own = [one[key] for one in defaults if key in one]
    if own and chosen and own != chosen:
        raise ExperimentError(
            f"sweep={sweep} is over settings of experiment={own[0]}: leave experiment={chosen[0]} out"
        )
    return own or chosen


@cache
def _content(path: Path) -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(path), resolve=False))


def _value_in(path: Path, key: str) -> Any:
    """What a configuration file, or one that it begins with, says of a key, its parts joined by dots."""
    content = part = _content(path)
    for name in key.split("."):
        part = part.get(name, _ABSENT) if isinstance(part, dict) else _ABSENT
    bases = [one for one in content.get("defaults", ()) if isinstance(one, str) and one != "_self_"]
    for base in bases if part is _ABSENT else ():
        part = _value_in(path.with_name(f"{base}.yaml"), key)
        if part is not _ABSENT:
            break
    return part
