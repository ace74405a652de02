"""A configuration that seems to hold a credential is refused, and the message doesn't repeat it."""

from __future__ import annotations

import pytest

from experiments.configuration import resolve
from experiments.credentials import refuse_credentials
from experiments.settings import ExperimentError
from tests.experiments.helpers import KS, compose

KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    "override",
    [
        f"logger.project={KEY}",
        f"tags=[figure-1,{KEY}]",
        "+trainer.api_key=short",
        "+trainer.access-token=x",
        "'data_directory=https://jane:hunter2@example.org/data'",
        "logger.project=wandb_v1_" + 30 * "A",
        "results=/home/jane/from-the-environment/results",
    ],
)
def test_what_looks_like_a_credential_is_refused_by_its_name(override: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "from-the-environment")
    name = override.strip("'").partition("=")[0]
    with pytest.raises(ExperimentError, match="looks like a credential") as caught:
        resolve(compose(KS, override.strip("'")))
    assert name.lstrip("+") in str(caught.value)
    for secret in (KEY, "hunter2", "from-the-environment", 30 * "A"):
        assert secret not in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        {"tokens": 3, "keyboard": "qwerty", "data": {"path": "https://example.org/a:b@c"}},
        {"password": None},
        {"commit": 41 * "a", "id": "0123456789ab", "values": [1, 2.5, True, None]},
    ],
)
def test_what_only_resembles_one_is_not(config: dict[str, object]) -> None:
    refuse_credentials(config)
