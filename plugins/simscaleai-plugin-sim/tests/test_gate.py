import pytest
from simscaleai_plugin_sim.gate import gate_from_text

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
