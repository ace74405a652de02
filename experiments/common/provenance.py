"""Where a number comes from: what a reader needs to judge it and to make it again."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from experiments.common.collected import describe_seconds

UNKNOWN = "not known"


@dataclass(frozen=True)
class Provenance:
    """What made the numbers of a line of a table.

    Attributes:
        profile: Profile of the runs.
        data: Data set; "drawn" where an experiment draws its own.
        seeds: Seeds of the runs.
        device: Names of the processors.
        seconds: Time per run, in words.
        commits: Commits of the code, ten digits; "with changes" where the checkout was not clean.
        torch: Versions of PyTorch.
        runs: Row and run id of every run.
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


def provenance_of(runs: pd.DataFrame, source: str) -> Provenance:
    """Returns the provenance of some lines of a collected metrics table.

    Args:
        runs: Lines with ``row``, ``profile``, ``seed``, ``run_id``, ``commit``, ``dirty``, ``device``, ``seconds`` and
            ``torch``; several lines of one run count once.
        source: Name of the file they are from.
    """
    runs = runs.drop_duplicates("run_id")
    data = runs["data"] if "data" in runs else pd.Series("drawn", index=runs.index)
    commits = {f"{run.commit!s:.10}{' with changes' if run.dirty else ''}" for run in runs.itertuples()}
    return Provenance(
        profile=", ".join(sorted(set(runs["profile"].astype(str)))),
        data=", ".join(sorted(set(data.fillna("drawn").astype(str)))),
        seeds=tuple(sorted(int(seed) for seed in set(runs["seed"]))),
        device=", ".join(sorted(set(runs["device"].fillna(UNKNOWN).astype(str)))),
        seconds=describe_seconds(runs),
        commits=tuple(sorted(commits)),
        torch=", ".join(sorted(set(runs["torch"].fillna(UNKNOWN).astype(str)))),
        runs=tuple(sorted(f"{run.row} {run.run_id}" for run in runs.itertuples())),
        source=source,
    )
