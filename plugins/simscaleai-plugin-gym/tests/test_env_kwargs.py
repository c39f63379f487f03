import pytest
from cyclopts import App
from simscaleai_plugin_gym.commands.env_kwargs import EnvKwargs

from simscaleai_core.cli import app


def read(*tokens):
    def command(*, env_kwargs: EnvKwargs = None):
        return env_kwargs

    asked = App(default_command=command)
    return asked(tokens, exit_on_error=False, print_error=False, result_action="return_value")


@pytest.mark.parametrize(
    ("tokens", "options"),
    [
        ((), None),
        (("--env-kwargs.phrasing", "all"), {"phrasing": "all"}),
        (("--env-kwargs.max-length", "-1.5"), {"max_length": -1.5}),
        (("--env-kwargs.cameras=front,wrist",), {"cameras": "front,wrist"}),
        (
            ("--env-kwargs.randomize.mass", "0.5,2", "--env-kwargs.randomize.camera-m", "0.1"),
            {"randomize": {"mass": "0.5,2", "camera_m": 0.1}},
        ),
        (
            ("--env-kwargs.a.b.c", "1", "--env-kwargs.a.d", "[2, 3]"),
            {"a": {"b": {"c": 1}, "d": [2, 3]}},
        ),
        (("--env-kwargs.a", '{"b": [1, 2]}'), {"a": {"b": [1, 2]}}),
        (("--env-kwargs.a", '{b = "x"}'), {"a": {"b": "x"}}),
        (("--env-kwargs", '{"a": 1}'), {"a": 1}),
    ],
)
def test_options_are_read_by_name_and_tables_by_dots(tokens, options):
    assert read(*tokens) == options


def test_a_value_without_a_name_is_refused():
    with pytest.raises(Exception, match=r"expected --env-kwargs.NAME VALUE, or a table, got '5'"):
        read("--env-kwargs", "5")


@pytest.mark.parametrize("command", [pytest.param("record", marks=pytest.mark.slow), "eval"])
def test_an_option_is_given_whole_or_in_parts(command, tmp_path, capsys):
    given = ["--env-kwargs.a", "1", "--env-kwargs.a.b", "2"]
    words = ["x.pt"] if command == "eval" else ["--output", str(tmp_path / "x.h5"), "--env", "dot"]
    assert app.run([command, *words, *given]) == 2
    assert capsys.readouterr().err.endswith(
        "error: --env-kwargs.a and --env-kwargs.a.b: expected one of them, got both. Leave one out.\n"
    )
