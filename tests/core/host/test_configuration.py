"""From tables to classes: strict types, every problem at once, a round trip through TOML."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import attrs
import pytest
from attrs import field, frozen
from attrs.validators import ge
from hypothesis import given
from hypothesis import strategies as st

from simscaleai_core.cli.configuration import (
    build_config,
    field_docs,
    parse_literal,
    read_toml,
    write_toml,
)
from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import ConfigError
from simscaleai_core.host.configuration import structure


def _problems(*tables: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        build_config(*tables)
    return caught.value.problems


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"max_steps": 10.7}, "expected int, got float 10.7 @ $.max_steps"),
        ({"max_steps": "10"}, "expected int, got str '10' @ $.max_steps"),
        ({"max_steps": True}, "expected int, got bool True @ $.max_steps"),
        ({"lr": "1e-3"}, "expected float, got str '1e-3' @ $.lr"),
        ({"use_amp": "false"}, "expected bool, got str 'false' @ $.use_amp"),
        ({"use_amp": 0}, "expected bool, got int 0 @ $.use_amp"),
        ({"model_name": 1}, "expected str, got int 1 @ $.model_name"),
        ({"loggers": "console"}, "expected a list, got str 'console' @ $.loggers"),
        ({"loggers": [1]}, "expected str, got int 1 @ $.loggers"),
        ({"model_kwargs": 3}, "expected a table, got int 3 @ $.model_kwargs"),
        ({"resume_from": 3}, "expected str, got int 3 @ $.resume_from"),
    ],
)
def test_types_are_strict(table: dict[str, Any], text: str) -> None:
    assert _problems(table) == (text,)


def test_an_integer_passes_for_a_float() -> None:
    config = build_config({"lr": 1})
    assert config.lr == 1.0
    assert type(config.lr) is float


def test_every_problem_is_named_at_once() -> None:
    problems = _problems({"lrr": 1, "lr": -1.0, "batch_size": 2.5, "use_amp": "no", "bogus": 1})
    assert len(problems) == 5
    text = "\n".join(problems)
    for part in ("'lrr'", "Did you mean 'lr'?", "'lr': expected a finite number above 0",
                 "$.batch_size", "$.use_amp", "'bogus'"):  # fmt: skip
        assert part in text


def test_did_you_mean_only_when_sure() -> None:
    assert "Did you mean 'max_steps'?" in _problems({"max_step": 1})[0]
    (far,) = _problems({"zzzzqqq": 1})
    assert "Did you mean" not in far
    assert "Known:" in far


def test_later_tables_win_and_tables_merge() -> None:
    config = build_config(
        {"lr": 0.1, "model_kwargs": {"a": 1, "b": 2}, "vla": {"embed_dim": 8, "heads": 2}},
        {"lr": 0.2, "model_kwargs": {"b": 3}, "options": {"vla": {"heads": 4}}},
    )
    assert config.lr == 0.2
    assert config.model_kwargs == {"a": 1, "b": 3}
    assert config.options == {"vla": {"embed_dim": 8, "heads": 4}}


def test_merging_leaves_the_given_tables_alone() -> None:
    first = {"model_kwargs": {"a": 1}}
    build_config(first, {"model_kwargs": {"a": 2}})
    assert first == {"model_kwargs": {"a": 1}}


@pytest.mark.parametrize("value", [3, 0, "", [], "x"], ids=repr)
def test_an_options_value_that_is_no_table_is_a_problem(value: object) -> None:
    assert "$.options" in " ".join(_problems({"options": value}))


def test_options_of_a_component_that_are_no_table_are_a_problem() -> None:
    assert "vla" in " ".join(_problems({"options": {"vla": 3}}))


NAMES = st.lists(st.text(alphabet="abc-_/", min_size=1, max_size=5), max_size=3, unique=True)
PLAIN = st.one_of(
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=10),
)
PATHS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
KEYS = st.text(alphabet="abcdefghij_", min_size=1, max_size=8)
CONFIGS = st.fixed_dictionaries(
    {
        "lr": st.floats(min_value=1e-12, max_value=1e6),
        "seed": st.integers(0, 2**62),
        "use_amp": st.booleans(),
        "loggers": NAMES.map(tuple),
        "resume_from": st.none() | PATHS.filter(bool),
        "dataset_path": PATHS,
        "model_kwargs": st.dictionaries(KEYS, PLAIN, max_size=3),
        "options": st.dictionaries(KEYS, st.dictionaries(KEYS, PLAIN, max_size=2), max_size=2),
    }
)


@given(fields=CONFIGS)
def test_toml_round_trip(fields: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("toml") / "run.toml"
    config = TrainConfig(**fields)
    write_toml(config, path)
    assert build_config(read_toml(path)) == config


def test_toml_faults_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    with pytest.raises(ConfigError, match=r"run\.toml: No such file"):
        read_toml(path)
    path.write_text("lr = 1\nlr = 2\n")
    with pytest.raises(ConfigError, match=r"run\.toml is not TOML"):
        read_toml(path)
    path.write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigError, match=r"run\.toml is not TOML"):
        read_toml(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("1e-4", 1e-4), ("true", True), ("[1, 2]", [1, 2]), ("relu", "relu"),
     ("'quoted'", "quoted"), ("", ""), ("1.5.2", "1.5.2"), ("a = 3", "a = 3"), ("no", "no")],
)  # fmt: skip
def test_parse_literal(text: str, value: object) -> None:
    found = parse_literal(text)
    assert found == value
    assert type(found) is type(value)


def test_a_literal_cannot_bring_further_keys() -> None:
    assert parse_literal("1\nother = 2") in (1, "1\nother = 2")


@frozen(kw_only=True)
class Options:
    """Options of something."""

    size: int = field(default=3, validator=ge(1))
    """How big [units]."""
    where: Path | None = None
    """Where to put it."""
    either: int | str = 3
    """A number or a name."""
    pair: tuple[int, int] = (1, 2)
    """Two numbers."""
    needed: float
    """Must be given."""


def test_any_attrs_class_can_be_structured() -> None:
    options = structure(
        Options, {"needed": 1, "where": "a/b", "either": "x", "pair": [3, 4], "size": 2}
    )
    assert options == Options(needed=1.0, where=Path("a/b"), either="x", pair=(3, 4), size=2)


def test_validators_and_missing_fields_are_named_with_their_place() -> None:
    with pytest.raises(ConfigError, match=r"'size' must be >= 1: 0 @ \$\.thing\.size"):
        structure(Options, {"size": 0, "needed": 1.0}, place="$.thing")
    with pytest.raises(ConfigError, match=r"needed.*@ \$\.thing"):
        structure(Options, {}, place="$.thing")


@pytest.mark.parametrize("pair", [[1], [1, 2, 3], ["a", 2]])
def test_a_tuple_of_the_wrong_length_or_type_is_refused(pair: list[Any]) -> None:
    with pytest.raises(ConfigError, match=r"\$\.pair"):
        structure(Options, {"pair": pair, "needed": 1.0})


def test_a_path_must_be_text() -> None:
    with pytest.raises(ConfigError, match=r"\$\.where"):
        structure(Options, {"where": 3, "needed": 1.0})


def test_field_docs_read_what_stands_under_the_field() -> None:
    docs = field_docs(Options)
    assert docs["size"] == "How big [units]."
    assert set(docs) == {f.name for f in attrs.fields(Options)}


def test_not_finite_is_refused_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("lr = nan\nweight_decay = inf\n")
    table = read_toml(path)
    assert math.isnan(table["lr"])
    assert len(_problems(table)) == 2
