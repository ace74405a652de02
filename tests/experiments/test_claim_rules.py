"""The rules: limits and units, what is comparable, what every rule of the file says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import pytest

from experiments.claims import rules
from experiments.claims.rules import Measurement, judge, outcome_of, read_rules, rule_in_words
from experiments.claims.summary import summary
from experiments.results import Block
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
    measured = Measurement("one", "", [(value, 1.0)], Block(profile, data, pd.DataFrame()), fills={"shared": 3})
    claim = judge(measured)
    assert (claim.outcome, claim.verdict, claim.reason) == (outcome, verdict, reason)
    assert claim.claim == "it holds, s = 3"
    one_rule["place"] = "ours, Section 1"
    assert judge(measured).verdict == outcome
    one_rule["needs_comparable"] = True
    assert judge(measured).outcome == ("not judged" if verdict == "not comparable" else outcome)


def test_what_is_missing_is_not_judged(one_rule: dict[str, Any]) -> None:
    claim = judge(Measurement("one", fills={"shared": 3}, missing="no run"))
    assert (claim.outcome, claim.verdict, claim.reason) == ("not judged", "not comparable", "no run")
    assert claim.measured == "no run"
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
    assert set(comparable.get("data", [])) <= {"mnist", "mpi3d_toy"}
    if rule["place"].startswith("ours"):
        assert not comparable
    else:
        assert rule.get("paper") or key in ("table_1_number", "table_3_hgvae", "table_3_ada_vae")


def lines_of(*measured: tuple[str, str, str], headlines: bool = False) -> list[str]:
    """What a summary shows of measurements of one rule, each with its place, part and number."""
    block = Block("paper", "", pd.DataFrame())
    claims = [
        judge(Measurement("ks_reference", "text", [(0, 6)], block, fills={"where": where, "sampler": "sample"}, **more))
        for where, more in ((where, {"part": part, "short": short}) for where, part, short in measured)
    ]
    claims.append(judge(Measurement("ks_family", "text", [(0.5, 1.0)], block, short="p 0.1")))
    return [line[1] for line in summary(claims, headlines).rows]


def test_headlines_are_few() -> None:
    assert sum(bool(rule.get("headline")) for rule in read_rules().values()) == 7


def test_summaries_name_equal_numbers_once_and_of_many_the_range() -> None:
    equal = [("Figure 1", "Figure 1", "0 of 30"), ("Figure 9", "Figure 9", "0 of 30")]
    assert lines_of(*equal) == ["0 of 30, 2 times", "p 0.1"]
    assert lines_of(*equal, headlines=True) == ["0 of 30, 2 times"]
    many = [("Figure 1", str(one), f"{one:+d} of 30") for one in range(-4, 6)]
    assert lines_of(*many)[0] == "-4 of 30 to +5 of 30, 10 numbers"
    assert lines_of(*many[:8])[0].count(";") == 7


def test_each_part_is_shown_on_its_largest_profile() -> None:
    """A larger profile that has some parts alone takes no other one's line along; one that a user added comes last."""
    runs = [("own", "full"), ("own", "80 %"), ("quick", "full"), ("quick", "60 %"), ("medium", "full")]
    fills = {"where": "Figure 1", "sampler": "sample"}
    claims = [
        judge(
            Measurement(
                "ks_reference", "text", [(0, 6)], Block(name, "", pd.DataFrame()), fills=fills, part=part, short=name
            )
        )
        for name, part in runs
    ]
    assert [line[1] for line in summary(claims).rows] == ["medium", "quick", "own"]


@pytest.mark.parametrize("rule", ["ks_reference", "table_1_number"])  # the second is judged by the paper's data alone
def test_a_larger_profile_with_too_few_seeds_displaces_nothing(rule: str) -> None:
    fills = {"where": "Figure 1", "sampler": "sample", "part": "shared", "shared": 3}
    claims = [
        judge(
            Measurement(
                rule,
                values=[(0, 6)],
                block=Block(name, "", pd.DataFrame()),
                missing=why,
                fills=fills,
                short=name,
                difference="0",
            )
        )
        for name, why in {"medium": "one seed is too few", "quick": ""}.items()
    ]
    assert [line[1] for line in summary(claims).rows] == ["quick"]


def test_numbers_of_the_same_parts_are_told_apart_by_their_places() -> None:
    assert (
        lines_of(("Figure 1", "", "0 of 30"), ("Figure 9", "", "1 of 30"))[0] == "Figure 1: 0 of 30; Figure 9: 1 of 30"
    )
