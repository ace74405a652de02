"""What one profile measured on one data set, as the rooms' tables and figures show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd


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
