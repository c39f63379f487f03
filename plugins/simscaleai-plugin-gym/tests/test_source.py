"""Whose units a policy acts in, if it was trained with statistics by source."""

from __future__ import annotations

import pytest
from simscaleai_plugin_gym.rollout.policy_runner import set_source

from simscaleai_core.errors import ConfigError


class Policy:
    """Remembers its choice, as a policy with statistics by source does."""

    chosen = ""

    def predict(self, observation: object) -> object:
        return observation

    def set_source(self, name: str) -> None:
        self.chosen = name


def test_a_source_is_chosen_and_nothing_is_without_one() -> None:
    policy = Policy()
    set_source(policy.predict, None)
    assert policy.chosen == ""
    set_source(policy.predict, "arm.h5")
    assert policy.chosen == "arm.h5"


def test_a_policy_without_a_choice_is_one_clear_error() -> None:
    set_source(len, None)
    with pytest.raises(ConfigError, match=r"source='arm\.h5': expected a policy .*got module"):
        set_source(len, "arm.h5")
