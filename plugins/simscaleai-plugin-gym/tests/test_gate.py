import pytest
from simscaleai_plugin_gym.evaluate.gate import gate_from_text

from simscaleai_core.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value", "met"),
    [
        ("success_rate>=0.95", 0.95, True),
        ("success_rate>=0.95", 0.94, False),
        ("success_rate > .5", 0.5, False),
        ("mean_length<=20", 20.0, True),
        ("mean_length<2e1", 20.0, False),
        ("mean_return>-3", -2.0, True),
    ],
)
def test_a_gate_compares(text, value, met):
    gate = gate_from_text(text)
    assert gate.is_met({gate.metric: value}) is met


@pytest.mark.parametrize("text", ["", "0.95", "succes_rate>=1", "success_rate=1", "success_rate>="])
def test_another_form_is_refused_with_the_results_there_are(text):
    with pytest.raises(ConfigError, match=r"such as 'success_rate>=0.95'. Results: success_rate,"):
        gate_from_text(text)


def test_a_number_that_is_none_is_refused():
    with pytest.raises(ConfigError, match=r"expected a number, got '1\.2\.3'"):
        gate_from_text("success_rate>=1.2.3")


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("success_rate_low>=0.9", True),
        ("success_rate_low>0.9", False),
        ("success_rate_high<1", True),
    ],
)
def test_a_gate_may_ask_for_a_bound_of_the_interval(text, met):
    results = {"success_rate": 0.95, "success_rate_ci95": [0.9, 0.98]}
    assert gate_from_text(text).is_met(results) is met


COMPARED = {
    "difference": -0.01,
    "difference_ci95": [-0.04, 0.02],
    "p_value": 0.5,
    "first": {"success_rate": 0.96, "success_rate_ci95": [0.9, 0.99]},
    "second": {"success_rate": 0.95, "success_rate_ci95": [0.89, 0.98], "mean_length": 20.0},
}


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("difference>=-0.02", True),
        ("difference_low>=-0.02", False),
        ("difference_low >= -5e-2", True),
        ("p_value>0.05", True),
        ("second.success_rate>=0.95", True),
        ("second.success_rate_low>=0.9", False),
        ("second.mean_length<=15", False),
    ],
)
def test_a_gate_on_a_comparison(text, met):
    assert gate_from_text(text, compares=True).is_met(COMPARED) is met


@pytest.mark.parametrize(
    ("text", "compares"),
    [
        ("success_rate>=0.9", True),
        ("third.success_rate>=0.9", True),
        ("difference>=0", False),
        ("first.success_rate>=0.9", False),
        ("mean_length_low>=1", False),
        ("p_value_low<1", True),
    ],
)
def test_each_kind_of_evaluation_has_its_own_results(text, compares):
    example = "difference>=-0.02" if compares else "success_rate>=0.95"
    with pytest.raises(ConfigError, match=f"such as '{example}'. Results: "):
        gate_from_text(text, compares=compares)
