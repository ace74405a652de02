"""The rules of rules.yaml: what a measurement must satisfy, and what its verdict is then."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import pandas as pd
from omegaconf import OmegaConf

from experiments.common.provenance import Provenance, provenance_of
from experiments.common.tables import NOTHING
from experiments.verdicts.claim import Claim

RULES = Path(__file__).with_name("rules.yaml")
HOLDS, CLOSE, FAILS = "holds", "close", "fails"  # outcomes, on what was run here
NOT_JUDGED = "not judged"  # the runs it needs are not there
REPRODUCED, NOT_REPRODUCED, NOT_COMPARABLE = "reproduced", "not reproduced", "not comparable"
_VERDICTS = {HOLDS: REPRODUCED, CLOSE: CLOSE, FAILS: NOT_REPRODUCED}
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
        runs: Lines of the metrics that it was measured on, with the columns of provenance; None if they have none.
        source: File of those lines.
        profile: Profile of the block.
        data: Data of the block; empty where an experiment draws its own.
        fills: What the claim's text is filled in with.
        part: What tells apart the claims of one rule, such as "s = 3".
        short: The number alone, for a summary.
        paper: The paper's number in words; the rule's own if empty.
        difference: Of the two numbers, in words.
        missing: Why it can't be judged, if so.
        origin: Provenance where there are no lines to take it from.
    """

    rule: str
    text: str
    values: Sequence[tuple[float, float]] = ()
    runs: pd.DataFrame | None = None
    source: str = ""
    profile: str = ""
    data: str = ""
    fills: Mapping[str, Any] = field(default_factory=dict)
    part: str = ""
    short: str = ""
    paper: str = ""
    difference: str = NOTHING
    missing: str = ""
    origin: Provenance | None = None


@lru_cache(maxsize=1)
def read_rules() -> dict[str, dict[str, Any]]:
    """Returns the rules by key."""
    return cast(dict[str, dict[str, Any]], OmegaConf.to_container(OmegaConf.load(RULES)))


def too_few(rule: str, seeds: int) -> str:
    """Returns why so many seeds are not judged; empty if they are."""
    if seeds >= read_rules()[rule].get("seeds", 1):
        return ""
    return "one seed is too few" if seeds else "no run"


def _satisfied(condition: Mapping[str, float] | None, values: Sequence[tuple[float, float]]) -> bool:
    if not condition:
        return False
    ((comparison, limit),) = condition.items()
    # A limit of zero is zero in every unit, also in one that is not known (the standard error of one value).
    return all(_COMPARISONS[comparison](value, limit * unit if limit else 0.0) for value, unit in values)


def outcome_of(rule: Mapping[str, Any], measured: Measurement) -> str:
    """Returns whether the claim holds on what was run, by its rule alone."""
    if measured.missing or not measured.values or (rule.get("needs_comparable") and not_comparable(rule, measured)):
        return NOT_JUDGED
    if _satisfied(rule["reproduced"], measured.values):
        return HOLDS
    return CLOSE if _satisfied(rule.get("close"), measured.values) else FAILS


def not_comparable(rule: Mapping[str, Any], measured: Measurement) -> str:
    """Returns why the paper's claim can't be held against such runs; empty if it can."""
    comparable = rule.get("comparable") or {}
    profiles, data = comparable.get("profiles", []), comparable.get("data", [])
    reasons = []
    if profiles and measured.profile not in profiles:
        reasons.append(f"the budget is that of the profile {measured.profile}")
    if data and measured.data not in data:
        reasons.append(f"the data are {measured.data}, not {' or '.join(data)}")
    return "; ".join(reasons)


def judge_by_rule(measured: Measurement) -> Claim:
    """Returns the claim with what follows for it."""
    rule = read_rules()[measured.rule]
    outcome = outcome_of(rule, measured)
    ours = rule["place"].startswith("ours")
    reason = measured.missing or not_comparable(rule, measured)
    if outcome == NOT_JUDGED:
        verdict = NOT_COMPARABLE
    elif ours:
        verdict = outcome
    elif reason:
        verdict = NOT_COMPARABLE
    else:
        verdict = _VERDICTS[outcome]
    if outcome == FAILS and rule.get("why"):
        reason = f"{reason}; {rule['why']}" if reason else rule["why"]
    origin = measured.origin
    if origin is None and measured.runs is not None and len(measured.runs):
        origin = provenance_of(measured.runs, measured.source)
    block = "_".join(part for part in (measured.profile, measured.data) if part)
    place = rule["place"].format(**measured.fills)
    return Claim(
        key=" / ".join(part for part in (measured.rule, measured.part, block) if part),
        place=place,
        claim=rule["claim"].format(**measured.fills),
        rule=rule_in_words(measured.rule),
        paper=measured.paper or rule.get("paper") or NOTHING,
        measured=measured.text,
        difference=measured.difference,
        outcome=outcome,
        verdict=verdict,
        reason=reason,
        provenance=origin,
    )


def rule_in_words(key: str) -> str:
    """Returns a rule with its limits."""
    rule = read_rules()[key]
    limits = {name: f"{next(iter(rule[name].values())):g}" for name in ("reproduced", "close") if rule.get(name)}
    return str(rule["rule"].format(**limits))
