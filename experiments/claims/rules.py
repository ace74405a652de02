"""The rules of rules.yaml: what a measurement must satisfy, and what follows for the claim."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import pandas as pd
from omegaconf import OmegaConf

from experiments.results import Block, Provenance, provenance_of
from experiments.tables import NOTHING

HOUR = 3600.0
RULES = Path(__file__).with_name("rules.yaml")
HOLDS, CLOSE, FAILS = "holds", "close", "fails"  # outcomes, on what was run here
NO_DIFFERENCE = "no difference"  # the same, of an order: neither side is ahead by more than the noise
NOT_JUDGED = "not judged"  # the runs it needs are not there
REPRODUCED, NOT_REPRODUCED, NOT_COMPARABLE = "reproduced", "not reproduced", "not comparable"
_VERDICTS = {HOLDS: REPRODUCED, CLOSE: CLOSE, NO_DIFFERENCE: NO_DIFFERENCE, FAILS: NOT_REPRODUCED}
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "at_most": operator.le,
    "at_least": operator.ge,
    "below": operator.lt,
    "above": operator.gt,
}


@dataclass(frozen=True)
class Measurement:
    """What was measured for one claim on one block of the metrics.

    Attributes:
        rule: Key in rules.yaml.
        text: What was measured, in words.
        values: Each with the unit that the rule's limits are in; all must satisfy them.
        block: Profile and data.
        lines: Lines of the metrics that it was measured on, with the columns of provenance; None if there are none.
        source: File of those lines.
        missing: Why it can't be judged, if so.
        fills: What the claim's text is filled in with.
        part: What tells apart the claims of one rule, such as "s = 3".
        short: The number alone, for a summary; none for a claim without runs.
        paper: The paper's number in words; the rule's own if empty.
        difference: Of the two numbers, in words.
        origin: Provenance where there are no lines to take it from.
    """

    rule: str
    text: str = ""
    values: Sequence[tuple[float, float]] = ()
    block: Block | None = None
    lines: pd.DataFrame | None = None
    source: str = ""
    missing: str = ""
    fills: Mapping[str, Any] = field(default_factory=dict)
    part: str = ""
    short: str = ""
    paper: str = ""
    difference: str = NOTHING
    origin: Provenance | None = None


@dataclass(frozen=True)
class Claim:
    """One claim of the paper (or of ours) held against the collected metrics.

    Attributes:
        measurement: What was measured.
        outcome: On what was run here: "holds", "close", "no difference", "fails" or "not judged".
        verdict: On the paper's claim: "reproduced", "close", "no difference", "not reproduced" or "not comparable"; of
            ours the outcome.
        reason: Why it is not comparable or not reproduced, else empty.
        place: Where it stands, such as "Section 5.2, Figure 2".
        claim: The claim, in our words.
        paper: What the paper reports, or "not legible".
        provenance: Of the numbers; None where there are none.
    """

    measurement: Measurement
    outcome: str
    verdict: str
    reason: str
    place: str
    claim: str
    paper: str
    provenance: Provenance | None

    @property
    def measured(self) -> str:
        """What was measured here, in words."""
        return self.measurement.text or self.measurement.missing

    @property
    def is_ours(self) -> bool:
        """Whether it is a claim of this project, which says nothing about the paper."""
        return self.place.startswith("ours")

    @property
    def rule(self) -> str:
        """What decides, in words; fixed before the numbers."""
        return rule_in_words(self.measurement.rule)


@lru_cache(maxsize=1)
def read_rules() -> dict[str, dict[str, Any]]:
    """Returns the rules by key."""
    return cast(dict[str, dict[str, Any]], OmegaConf.to_container(OmegaConf.load(RULES)))


def rule_in_words(key: str) -> str:
    """Returns a rule with its limits."""
    rule = read_rules()[key]
    limits = {
        name: f"{next(iter(rule[name].values())):g}"
        for name in ("reproduced", "close", "no_difference")
        if rule.get(name)
    }
    return str(rule["rule"].format(**limits, t=" (4.3 of three seeds, 2.8 of five, by Student's t)"))


def too_few(rule: str, seeds: int, nothing: str = "no run") -> str:
    """Returns why so many seeds are not judged; empty if they are."""
    if seeds >= read_rules()[rule].get("seeds", 1):
        return ""
    if not seeds:
        return nothing
    return "one seed is too few" if seeds == 1 else f"{seeds} seeds are too few"


def measure(
    rule: str,
    block: Block | None,
    lines: pd.DataFrame,
    source: str,
    text: str = "",
    values: Iterable[tuple[float, float]] = (),
    *,
    seeds: int | None = None,
    missing: str = "",
    short: str | None = None,
    **more: Any,
) -> Measurement:
    """Returns what was measured on some lines; of no line nothing is said, and too few seeds are not judged.

    Args:
        seeds: On which it was measured; as many as a rule wants, if not given.
        short: As for ``Measurement``; the text itself if not given.
        more: Of ``Measurement``, as the others.
    """
    if lines.empty:
        told = {name: more[name] for name in ("fills", "part") if name in more}
        return Measurement(rule, block=block, missing=missing or "no run", **told)
    values = list(values)
    missing = missing or ("" if seeds is None else too_few(rule, seeds))
    if not missing and not all(math.isfinite(value) for value, _ in values):
        missing = "these runs leave a number undefined"
    short = text if short is None else short
    return Measurement(rule, text, values, block, lines, source, missing, short=short, **more)


def hours(rule: str, block: Block, runs: pd.DataFrame, source: str, **more: Any) -> Measurement:
    """How long a run takes: the median of those that were not interrupted."""
    median = float(runs["seconds"].median() / HOUR)
    if math.isnan(median) and len(runs):
        return measure(rule, block, runs, source, missing="no run without interruption", **more)
    text, values = f"{median:.2f} hours", [(median, 1.0)]
    seeds = int(runs["seed"].nunique())
    return measure(rule, block, runs, source, text, values, seeds=seeds, short=f"{median:.2f} h", **more)


def judge(measured: Measurement) -> Claim:
    """Returns the claim with what follows for it."""
    rule = read_rules()[measured.rule]
    place = rule["place"].format(**measured.fills)
    origin = measured.origin
    if origin is None and measured.lines is not None and len(measured.lines):
        origin = provenance_of(measured.lines, measured.source)
    outcome = outcome_of(rule, measured, origin)
    reason = measured.missing or not_comparable(rule, measured.block, origin)
    verdict = NOT_COMPARABLE if reason or outcome == NOT_JUDGED else _VERDICTS[outcome]
    if place.startswith("ours"):  # says nothing about the paper
        verdict = outcome
    if outcome == FAILS and rule.get("why"):
        reason = f"{reason}; {rule['why']}" if reason else rule["why"]
    paper = measured.paper or rule.get("paper") or NOTHING
    return Claim(measured, outcome, verdict, reason, place, rule["claim"].format(**measured.fills), paper, origin)


def outcome_of(rule: Mapping[str, Any], measured: Measurement, origin: Provenance | None = None) -> str:
    """Returns whether the claim holds on what was run, by its rule alone."""
    if measured.missing or (rule.get("needs_comparable") and not_comparable(rule, measured.block, origin)):
        return NOT_JUDGED
    if _satisfied(rule["reproduced"], measured.values):
        return HOLDS
    if _satisfied(rule.get("no_difference"), measured.values):
        return NO_DIFFERENCE
    return CLOSE if _satisfied(rule.get("close"), measured.values) else FAILS


def not_comparable(rule: Mapping[str, Any], block: Block | None, origin: Provenance | None = None) -> str:
    """Returns why the paper's claim can't be held against such runs; empty if it can."""
    comparable = rule.get("comparable") or {}
    profiles, data, makers = (comparable.get(name, []) for name in ("profiles", "data", "devices"))
    if block is None:
        return ""
    reasons = []
    if profiles and block.profile not in profiles:
        reasons.append(f"the budget is that of the profile {block.profile}")
    if data and block.data not in data:
        reasons.append(f"the data are {block.data}, not {' or '.join(data)}")
    if makers and origin is not None and not origin.device.startswith(tuple(makers)):
        reasons.append(f"measured on {origin.device}, not on a GPU")
    return "; ".join(reasons)


def _satisfied(condition: Mapping[str, float] | None, values: Sequence[tuple[float, float]]) -> bool:
    if not condition:
        return False
    ((comparison, limit),) = condition.items()
    # A limit of zero is zero in every unit, also in one that is not known (the standard error of one value).
    return all(_COMPARISONS[comparison](value, limit * unit if limit else 0.0) for value, unit in values)
