"""Numbers the places that the page's numbers come from, so that every line can point at its own."""

from __future__ import annotations

from experiments.results import Provenance

NO_RUN = "no run of this line is in these results"
Facts = tuple[tuple[str, str], ...]  # name and value of each


class Sources:
    """The sources in the order in which the page names them first; equal ones share a number, counted from 1."""

    def __init__(self) -> None:
        self._numbers: dict[Facts, int] = {}

    def number(self, provenance: Provenance | None, place: str = "") -> int:
        """Returns the number of a source.

        Args:
            provenance: of the numbers; None where they are the paper's.
            place: where the paper's numbers stand.
        """
        facts: Facts
        if provenance is None:
            facts = (("from the paper", place or "as the text says"),)
        elif not provenance.profile:
            facts = (("runs", NO_RUN), ("file", provenance.source))
        else:
            facts = tuple((name, value) for name, value in provenance.lines() if value)
        return self._numbers.setdefault(facts, len(self._numbers) + 1)

    def all(self) -> list[Facts]:
        """Returns the facts of every source, by number."""
        return list(self._numbers)
