"""A run's id is the hash of what decides its numbers."""

from __future__ import annotations

import pytest

from experiments.common.configuration import check_overrides, resolve, run_id
from tests.experiments.helpers import KS, compose


def identify(*overrides: str) -> str:
    return run_id(resolve(compose(KS, *overrides)), KS)


@pytest.mark.parametrize(
    "override",
    [
        "results=elsewhere",
        "force=true",
        "logger=disabled",
        "threads=null",
        "trainer=gpu",
        "trainer.enable_progress_bar=true",
        "tags=[mine]",
        "profile.urn.epochs=99",
    ],
)
def test_places_hardware_and_other_rooms_do_not_enter(override: str) -> None:
    assert identify(override) == identify()


@pytest.mark.parametrize("override", ["seed=1", "profile=smoke", "experiment.dtype=float64", "+trainer.max_epochs=2"])
def test_what_decides_the_numbers_enters(override: str) -> None:
    assert identify(override) != identify()


def test_the_row_enters() -> None:
    plain = resolve(compose(KS))
    assert run_id(plain, "a/b") != run_id(plain, "a/c")


def test_overrides_that_change_numbers_are_kept() -> None:
    neutral = [f"experiment={KS}", "seed=2", "results=x", "logger.project=mine", "trainer.devices=2", "force=true"]
    changing = ["experiment.draws=10", "+trainer.max_epochs=3", "trainer.deterministic=false"]
    assert check_overrides([*neutral, *changing]) == changing
