"""Numbers the places that the page's numbers come from, so that every line can point at its own."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.common.provenance import Provenance

NO_RUN = "no run of this line is in these results"


@dataclass(frozen=True)
class Source:
    """An entry of the page's list of sources.

    Attributes:
        number: Its number on the page, from 1.
        facts: Name and value of each fact.
    """

    number: int
    facts: tuple[tuple[str, str], ...]


class Sources:
    """The sources in the order in which the page names them first; equal ones share a number."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[tuple[str, str], ...], int] = {}

    def number(self, provenance: Provenance | None, place: str = "") -> int:
        """Returns the number of a source.

        Args:
            provenance: of the numbers; None where they are the paper's.
            place: where the paper's numbers stand.
        """
        facts: tuple[tuple[str, str], ...]
        if provenance is None:
            facts = (("from the paper", place or "as the text says"),)
        elif not provenance.profile:
            facts = (("runs", NO_RUN), ("file", provenance.source))
        else:
            facts = tuple((name, value) for name, value in provenance.lines() if value)
        return self._numbers.setdefault(facts, len(self._numbers) + 1)

    def all(self) -> list[Source]:
        """Returns every source by number."""
        return [Source(number, facts) for facts, number in self._numbers.items()]
