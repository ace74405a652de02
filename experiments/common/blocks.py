"""Collected metrics split into blocks that may be shown together: what one profile measured on one data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from experiments.common.collected import ordered, read_collected
from experiments.common.errors import ExperimentError
from experiments.common.figures import PROFILES


@dataclass(frozen=True)
class DataBlock:
    """What one profile measured on one data set. A room's own names its data.

    Attributes:
        folder: Folder of the CSVs.
        profile: Name of the profile.
        data: Key of the data set.
        metrics: Lines of the room's metrics table.
    """

    data_names: ClassVar[Mapping[str, str]] = {}  # in words; from the largest, or the paper's own
    usual_data: ClassVar[Mapping[str, str]] = {}  # of each profile

    folder: Path
    profile: str
    data: str
    metrics: pd.DataFrame

    @property
    def source(self) -> str:
        """Profile and data in words."""
        return f"profile {self.profile}, {self.data_names.get(self.data, self.data)}"

    @property
    def heading(self) -> str:
        """The same at the start of a sentence."""
        return self.source[0].upper() + self.source[1:]

    @property
    def suffix(self) -> str:
        """Ending of file names: the profile, and the data where they are not the profile's own."""
        return self.profile if self.usual_data.get(self.profile) == self.data else f"{self.profile}_{self.data}"


def read_metrics(path: Path, profile: str | None, dtype: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """Reads a room's metrics table.

    Args:
        path: CSV of the aggregator.
        profile: Profile to take; None for every one.
        dtype: Of columns that pandas would take for something else.

    Raises:
        ExperimentError: the file isn't there or holds no such run.
    """
    table = read_collected(path, dtype)
    if profile:
        table = table[table["profile"] == profile]
    if table.empty:
        raise ExperimentError(f"{path} holds no run{f' of the profile {profile}' if profile else ''}")
    return table


def split(table: pd.DataFrame, data_names: Mapping[str, str]) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yields profile, data and lines of every profile and data set with a run, the largest first.

    Args:
        table: Lines with ``profile`` and ``data``.
        data_names: The known data, in their order.
    """
    for profile in ordered(table["profile"], PROFILES):
        part = table[table["profile"] == profile]
        for data in ordered(part["data"], data_names):
            yield profile, data, part[part["data"] == data]
