"""The collected results, as tables, figures, claims and the report read them: lines of CSVs, and where each comes from.

A CSV of results/metrics begins with the axes of its experiment, then ``changes``, ``profile``, ``data`` where there is
a choice, ``seed`` and ``run_id``; what the runs returned follows.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar, cast

import pandas as pd
from omegaconf import OmegaConf

from experiments.settings import ExperimentError

PROFILES = ("paper", "medium", "quick", "smoke")  # from the largest
LEFT_OUT = "left_out.csv"
PAPER = Path(__file__).resolve().parents[1] / "results" / "paper.yaml"
AGAIN = "run `python -m scripts.aggregate` again"
NOT_LEGIBLE = "not legible"
UNKNOWN = "not known"
NOTHING = "-"
ORIGIN = ("changes", "profile", "seed", "run_id")  # of every line of every table
_TEXT: dict[str, Any] = {"changes": str, "run_id": str, "commit": str, "torch": str}  # may look like numbers

Value = TypeVar("Value", str, int)


class Block(NamedTuple):
    """Lines that may be shown together: what one profile measured on one data set."""

    profile: str
    data: str  # empty where an experiment has no choice
    lines: pd.DataFrame


@dataclass(frozen=True)
class MetricsBlock:
    """Collected metrics that may be shown together.

    Attributes:
        folder: of the CSVs.
        profile: name of the profile.
        data: key of the data set.
        metrics: lines of the metrics table, a line per run and what the room tells apart in it.
        usual_data: data set of a profile, which file names leave out.
    """

    folder: Path
    profile: str
    data: str
    metrics: pd.DataFrame

    usual_data: ClassVar[Mapping[str, str]] = {}

    @property
    def data_in_words(self) -> str:
        """Name of the data set."""
        return self.data

    @property
    def source(self) -> str:
        """Profile and data in words."""
        return f"profile {self.profile}, {self.data_in_words}"

    @property
    def heading(self) -> str:
        """The same at the start of a sentence."""
        return self.source[0].upper() + self.source[1:]

    @property
    def suffix(self) -> str:
        """Ending of file names: the profile, and the data where they are not the profile's own."""
        return self.profile if self.usual_data.get(self.profile) == self.data else f"{self.profile}_{self.data}"


@dataclass(frozen=True)
class Provenance:
    """What made the numbers of a line of a table: what a reader needs to judge it and to make it again.

    Attributes:
        profile: Profile of the runs.
        data: Data set; "drawn" where an experiment draws its own.
        seeds: Seeds of the runs.
        device: Names of the processors.
        seconds: Time per run, in words.
        commits: Commits of the code, ten digits; "with changes" where the checkout was not clean.
        torch: Versions of PyTorch.
        runs: Axes, changes and run id of every run.
        source: The committed file that the numbers were read from.
    """

    profile: str
    data: str
    seeds: tuple[int, ...]
    device: str
    seconds: str
    commits: tuple[str, ...]
    torch: str
    runs: tuple[str, ...]
    source: str

    def lines(self) -> list[tuple[str, str]]:
        """Returns name and value of each fact, in words, for a page."""
        return [
            ("profile", self.profile),
            ("data", self.data),
            ("seeds", ", ".join(str(seed) for seed in self.seeds)),
            ("hardware", self.device),
            ("time per run", self.seconds),
            ("code", ", ".join(self.commits)),
            ("torch", self.torch),
            ("runs", ", ".join(self.runs)),
            ("file", self.source),
        ]


def read_metrics(
    metrics: Path,
    name: str,
    *,
    profile: str | None = None,
    changes: bool = False,
    dtype: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Reads a table of the collected results.

    Args:
        metrics: Folder of the CSVs.
        name: ``<experiment>_<table>``, for example ``urn_metrics``.
        profile: Profile to take; None for every one.
        changes: Whether lines of runs with changed settings are among them.
        dtype: Of columns that pandas would take for something else.

    Returns:
        Its lines; an axis that has no meaning in a line, and ``changes`` without any, are empty text.

    Raises:
        ExperimentError: it isn't there, is no such table or holds no such run.
    """
    path = metrics / f"{name}.csv"
    table = read_collected(path, dtype)
    table = table[(table["profile"] == profile) | (profile is None)]
    table = table[(table["changes"] == "") | changes]
    if table.empty:
        kind = "" if changes else " with the experiment's own settings"
        raise ExperimentError(f"{path} holds no run{f' of the profile {profile}' if profile else ''}{kind}")
    return table


def read_collected(path: Path, dtype: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """Reads a CSV of the aggregator as it stands, all of its lines.

    Raises:
        ExperimentError: it isn't there, no such table, or holds a line twice.
    """
    if not path.is_file():
        raise ExperimentError(f"{path} does not exist: run the experiment and `python -m scripts.aggregate` first")
    table = _read(path, ORIGIN, _TEXT | dict(dtype or {}))
    if table.duplicated().any():
        raise ExperimentError(f"{path} holds a line twice: {AGAIN}")
    axes = axes_columns(table)
    _require_cells(path, table.drop(columns=axes))
    _require_one_run_each(path, table)
    texts = [name for name in axes if not pd.api.types.is_numeric_dtype(table[name])]
    return table.fillna({name: "" for name in ["changes", *texts]})


def _require_cells(path: Path, table: pd.DataFrame) -> None:
    """Refuses lines that do not say of which run they are or what made it, and text among the numbers of a column."""
    for name in table.columns.intersection(["profile", "data", "seed", "run_id", "commit", "device", "torch"]):
        _require_all(path, name, table[name].notna())
    for name in table.drop(columns=[*_TEXT], errors="ignore").select_dtypes(exclude=["number", "bool"]):
        numeric = pd.to_numeric(table[name], errors="coerce").notna()
        if numeric.mean() > 0.5:  # a column of numbers; a hash may look like one now and then
            _require_all(path, name, numeric | table[name].isna())


def _require_one_run_each(path: Path, table: pd.DataFrame) -> None:
    """Refuses two runs of the same kind."""
    kind = kind_columns(table)
    runs = table[[*kind, "run_id"]].drop_duplicates()
    again = runs[runs.duplicated(kind, keep=False)]
    if len(again):
        alike = again.groupby(kind, dropna=False)["run_id"].agg(list).iloc[0]
        raise ExperimentError(f"{path} holds {' and '.join(alike)}, runs of the same kind and seed: {AGAIN}")


def _require_all(path: Path, name: str, right: pd.Series) -> None:
    if not right.all():
        line = int(right.to_numpy().argmin()) + 2  # the first that is not, after the header
        raise ExperimentError(f"{path}, line {line}: {name} is damaged or missing; {AGAIN}")


def _read(path: Path, columns: Sequence[str], dtype: Any, **options: Any) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=dtype, **options)
    except (ValueError, OSError) as error:  # of pandas' parser and of the decoder, too
        raise ExperimentError(f"{path} can't be read ({error}): {AGAIN}") from None
    if absent := [name for name in columns if name not in table]:
        raise ExperimentError(f"{path} has no column {', '.join(absent)}: {AGAIN}")
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        if file.read() != b"\n":
            raise ExperimentError(f"{path} ends within a line: {AGAIN}")
    return table


def axes_columns(table: pd.DataFrame) -> list[str]:
    """Returns the axes of a collected table: what stands before ``changes``."""
    columns = list(table.columns)
    return columns[: columns.index("changes")] if "changes" in columns else []


def kind_columns(table: pd.DataFrame) -> list[str]:
    """Returns the columns that tell runs of a collected table apart: axes, changes, profile, data and seed."""
    return [*axes_columns(table), *(name for name in ("changes", "profile", "data", "seed") if name in table)]


def runs_left_out(metrics: Path) -> list[tuple[str, str]]:
    """Returns the runs that the collected results leave out, each with the reason; empty where there are none.

    Raises:
        ExperimentError: the file that says so can't be read.
    """
    path = metrics / LEFT_OUT
    if not path.is_file():
        return []
    table = _read(path, ("run", "reason"), str, keep_default_na=False)
    return list(zip(table["run"], table["reason"], strict=True))


def read_left_out(metrics: Path) -> list[str]:
    """Returns the same, a line each."""
    return [f"{run}: {reason}" for run, reason in runs_left_out(metrics)]


def blocks(table: pd.DataFrame, data: Iterable[str] = ()) -> Iterator[Block]:
    """Splits lines by profile, the largest first, and data.

    Args:
        table: Lines of a collected table.
        data: Known data sets in their order; others follow.
    """
    for profile in ordered(table["profile"], PROFILES):
        part = table[table["profile"] == profile]
        if "data" not in part:
            yield Block(profile, "", part)
            continue
        for name in ordered(part["data"], data):
            yield Block(profile, name, part[part["data"] == name])


def read_largest(metrics: Path, name: str) -> pd.DataFrame:
    """Reads of a table, as ``read_metrics`` does, the lines of the largest profile with a run."""
    return next(blocks(read_metrics(metrics, name))).lines


def ordered(values: Iterable[Value], known: Iterable[Value]) -> list[Value]:
    """Known names in their order, then others: what somebody has added is not lost."""
    first = list(known)
    return sorted(set(values), key=lambda value: (first.index(value) if value in first else len(first), value))


def spread(values: pd.Series, decimals: int) -> str:
    """Writes mean and standard deviation (n - 1) of the values; the mean alone for one, "-" for none."""
    if values.empty:
        return NOTHING
    mean = f"{values.mean():.{decimals}f}"
    return mean if len(values) == 1 else f"{mean} ± {values.std():.{decimals}f}"


def describe_seeds(table: pd.DataFrame, by: str = "", names: Mapping[str, str] | None = None) -> str:
    """Names the seeds of some lines, for example "seeds 0, 1, 2 (80 %: seed 0)".

    Args:
        table: the lines.
        by: a column; where lines of one of its values have not all of these seeds, that is said in brackets.
        names: of those values.
    """
    numbers = [str(seed) for seed in sorted(table["seed"].unique())]
    seeds = f"seed{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"
    parts = {key: describe_seeds(part) for key, part in table.groupby(by)} if by else {}
    others = [f"{(names or {}).get(key, key)}: {found}" for key, found in parts.items() if found != seeds]
    return f"{seeds} ({'; '.join(others)})" if others else seeds


def describe_commits(runs: pd.DataFrame) -> str:
    """Names the commits that made some runs."""
    return ", ".join(_commits(runs))


def describe_seconds(runs: pd.DataFrame) -> str:
    """Says how long a run took: the median over those that were not interrupted."""
    times = runs["seconds"].dropna()
    if times.empty:
        return UNKNOWN
    return f"median {times.median():.0f} s over the {len(times)} of {len(runs)} runs without interruption"


def provenance_of(lines: pd.DataFrame, source: str) -> Provenance:
    """Returns the provenance of some lines of a collected metrics table.

    Args:
        lines: Lines with the columns of every metrics table; several of one run count once.
        source: Name of the file they are from.
    """
    runs = lines.drop_duplicates("run_id")
    data = runs["data"] if "data" in runs else pd.Series("drawn", index=runs.index)
    return Provenance(
        profile=", ".join(sorted(set(runs["profile"].astype(str)))),
        data=", ".join(sorted(set(data.fillna("drawn").astype(str)))),
        seeds=tuple(sorted(int(seed) for seed in set(runs["seed"]))),
        device=", ".join(sorted(set(runs["device"]))),
        seconds=describe_seconds(runs),
        commits=tuple(_commits(runs)),
        torch=", ".join(sorted(set(runs["torch"]))),
        runs=tuple(sorted(describe_run(run) for _, run in runs.iterrows())),
        source=source,
    )


def describe_run(line: pd.Series) -> str:
    """Names the run of a line, for example "method=hgvae shared=3 a9e6534c7d11"."""
    axes = axes_columns(line.to_frame().T)
    pairs = [f"{axis}={line[axis]}" for axis in axes if str(line[axis]) not in ("", "nan")]
    return " ".join([*pairs, *([line["changes"]] if line["changes"] else []), line["run_id"]])


def _commits(runs: pd.DataFrame) -> list[str]:
    def of(run: Any) -> str:
        # Several of a run that went on with other code.
        commits = " then ".join(commit[:10] for commit in str(run.commit).split())
        return f"{commits}{' with changes' if str(run.dirty) == 'True' else ''}"

    return sorted({of(run) for run in runs.itertuples()})


def read_paper(key: str) -> dict[str, Any]:
    """Reads what one of the paper's tables shows, for example ``table_2``, from results/paper.yaml."""
    return cast(dict[str, dict[str, Any]], OmegaConf.to_container(OmegaConf.load(PAPER)))[key]


def paper_value(value: Sequence[float | None] | None, decimals: int) -> str:
    """Writes one of the paper's numbers, [mean, standard deviation]; null is not legible."""
    if value is None:
        return NOT_LEGIBLE
    return " ± ".join(NOT_LEGIBLE if part is None else f"{part:.{decimals}f}" for part in value)
