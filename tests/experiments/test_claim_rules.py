"""The rules: limits and units, what is comparable, what every rule of the file says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import pytest

from experiments.common.provenance import provenance_of
from experiments.verdicts import rules
from experiments.verdicts.rules import Measurement, judge_by_rule, outcome_of, read_rules, rule_in_words
from experiments.weak_supervision.mpi3d import SOURCES
from tests.experiments.helpers import CHECKOUT

COMPARISONS = ("at_most", "at_least", "below", "above")


def outcome(rule: Mapping[str, Any], *values: tuple[float, float]) -> str:
    return outcome_of(rule, Measurement("any", "", values))


@pytest.mark.parametrize(
    ("condition", "holding", "failing"),
    [("at_most", [2.0, 1.9], [2.1]), ("below", [1.9], [2.0]), ("at_least", [2.0, 2.1], [1.9]), ("above", [2.1], [2.0])],
)
def test_comparisons(condition: str, holding: list[float], failing: list[float]) -> None:
    rule = {"reproduced": {condition: 2}}
    assert {outcome(rule, (value, 1.0)) for value in holding} == {"holds"}
    assert {outcome(rule, (value, 1.0)) for value in failing} == {"fails"}
    assert outcome(rule, (holding[0], 1.0), (failing[0], 1.0)) == "fails"  # all must satisfy it


def test_limits_are_in_the_unit_of_the_measurement() -> None:
    rule = {"reproduced": {"at_least": 0}, "close": {"at_least": -2}}
    assert outcome(rule, (-1.0, 0.6)) == "close"
    assert outcome(rule, (-1.0, 0.4)) == "fails"
    assert outcome(rule, (0.0, math.nan)) == "holds"  # of one value no standard error is known
    assert outcome(rule, (-0.1, math.nan)) == "fails"
    assert outcome(rule, (math.nan, 1.0)) == "fails"


@pytest.fixture
def one_rule(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    rule = {
        "place": "Section 1",
        "claim": "it holds, s = {shared}",
        "rule": "at most {reproduced}",
        "reproduced": {"at_most": 1},
        "comparable": {"profiles": ["paper"], "data": ["mnist"]},
        "why": "it is wrong",
    }
    monkeypatch.setattr(rules, "read_rules", lambda: {"one": rule})
    return rule


@pytest.mark.parametrize(
    ("value", "profile", "data", "outcome", "verdict", "reason"),
    [
        (0.5, "paper", "mnist", "holds", "reproduced", ""),
        (1.5, "paper", "mnist", "fails", "not reproduced", "it is wrong"),
        (0.5, "quick", "mnist", "holds", "not comparable", "the budget is that of the profile quick"),
        (0.5, "paper", "digits", "holds", "not comparable", "the data are digits, not mnist"),
        (1.5, "quick", "mnist", "fails", "not comparable", "the budget is that of the profile quick; it is wrong"),
    ],
)
def test_other_data_or_budgets_say_nothing_about_the_paper(
    one_rule: dict[str, Any], value: float, profile: str, data: str, outcome: str, verdict: str, reason: str
) -> None:
    measured = Measurement("one", "", [(value, 1.0)], profile=profile, data=data, fills={"shared": 3}, part="s = 3")
    claim = judge_by_rule(measured)
    assert (claim.outcome, claim.verdict, claim.reason) == (outcome, verdict, reason)
    assert claim.claim == "it holds, s = 3"
    assert claim.key == f"one / s = 3 / {profile}_{data}"
    one_rule["place"] = "ours, Section 1"
    assert judge_by_rule(measured).verdict == outcome
    one_rule["needs_comparable"] = True
    assert judge_by_rule(measured).outcome == ("not judged" if verdict == "not comparable" else outcome)


def test_what_is_missing_is_not_judged(one_rule: dict[str, Any]) -> None:
    claim = judge_by_rule(Measurement("one", "no run", profile="paper", fills={"shared": 3}, missing="no run"))
    assert (claim.outcome, claim.verdict, claim.reason) == ("not judged", "not comparable", "no run")
    assert claim.provenance is None


@pytest.mark.parametrize("key", list(read_rules()))
def test_every_rule_is_whole(key: str) -> None:
    rule = read_rules()[key]
    for name in ("reproduced", "close"):
        if name == "reproduced" or rule.get(name):
            assert len(rule[name]) == 1
            assert set(rule[name]) <= set(COMPARISONS)
    words = rule_in_words(key)
    assert "{" not in words
    assert ("close" in rule) == ("close" in words)
    comparable = rule.get("comparable") or {}
    profiles = {path.stem for path in (CHECKOUT / "configs" / "profile").glob("*.yaml")}
    assert set(comparable.get("profiles", [])) <= profiles - {"smoke"}
    assert set(comparable.get("data", [])) <= {"mnist", *SOURCES}
    if rule["place"].startswith("ours"):
        assert not comparable
    else:
        assert rule.get("paper") or key in ("table_1_number", "table_3_hgvae", "table_3_ada_vae")


def test_provenance_counts_a_run_once_and_says_what_is_dirty() -> None:
    line = {"row": "a/b", "profile": "quick", "seed": 1, "run_id": "r", "commit": "c" * 40, "dirty": False}
    line |= {"device": "d", "seconds": 4.0, "torch": "2"}
    other = line | {"seed": 0, "run_id": "q", "dirty": True, "seconds": None}
    origin = provenance_of(pd.DataFrame([line, line, other]), "file.csv")
    assert origin.seeds == (0, 1)
    assert origin.runs == ("a/b q", "a/b r")
    assert origin.commits == ("c" * 10, f"{'c' * 10} with changes")
    assert origin.seconds == "median 4 s over the 1 of 2 runs without interruption"
    assert dict(origin.lines())["file"] == "file.csv"
