"""Which reader reads what a user names: by content, then by suffix, in folders and by pattern."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path

import pytest
from training_kit import config_for

from simscaleai_core.cli.datasets import find_data, open_sources
from simscaleai_core.cli.from_config import train_from_config
from simscaleai_core.errors import ConfigError, DataError
from simscaleai_core.host.facade import Host
from simscaleai_core.host.records import Component
from simscaleai_core.host.selection import select_plugins
from simscaleai_core.plugin import DatasetSpec, ModelSpec


def reader(name: str, **spec: object) -> Component:
    made = DatasetSpec(name=name, target="toy_readers:dataset", **spec)  # type: ignore[arg-type]
    return Component(plugin=name, distribution=f"{name} 1.0", spec=made)


MARKED = reader("marked", reads="toy_readers:reads_marked", source="toy_readers:Source")
SUFFIX = reader("suffix", suffixes=(".toy",))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten marked files of an odd suffix, one of a known suffix, and one of neither."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.chdir(tmp_path)
    for number in (1, 2, 10):
        Path(f"part_{number}.odd").write_text("marked")
    Path("by_suffix.toy").write_text("")
    Path("strange.txt").write_text("")
    return tmp_path


def host(*readers: Component) -> Host:
    return Host(select_plugins(()), extra=readers or (MARKED, SUFFIX))


def found(named: object, name: str | None = None, *readers: Component) -> list[tuple[str, str]]:
    return [(f.path, f.reader.spec.name) for f in find_data(host(*readers), named, name)]


def test_the_content_comes_before_the_suffix() -> None:
    Path("both.toy").write_text("marked")
    assert found("both.toy") == [("both.toy", "marked")]
    assert found("by_suffix.toy") == [("by_suffix.toy", "suffix")]
    assert found("both.toy", "suffix") == [("both.toy", "suffix")]


@pytest.mark.parametrize("name", [None, "marked"])
def test_a_pattern_and_a_folder_give_files_in_natural_order(folder: Path, name: str | None) -> None:
    parts = [f"part_{n}.odd" for n in (1, 2, 10)]
    assert found("*.odd", name) == [(part, "marked") for part in parts]
    inside = [path for path, reader in found(str(folder), name) if reader == "marked"]
    assert inside == [str(folder / part) for part in parts]


def test_several_with_options_and_readers_of_their_own() -> None:
    table = {"path": "by_suffix.toy", "name": "marked", "seq_len": 3}
    one, two = find_data(host(), ["part_1.odd", table])
    assert (one.path, one.options) == ("part_1.odd", {})
    assert (two.reader.spec.name, two.options) == ("marked", {"seq_len": 3})


@pytest.mark.parametrize(
    ("named", "text"),
    [
        (
            "strange.txt",
            r"nothing installed reads 'strange.txt': .* ending in .*\.toy.*, got '\.txt'",
        ),
        ("s3://bucket/a.toy", "is not on this machine"),
        ("*.none", r"no file matches '\*\.none'"),
        ("empty", "got a folder of none of these"),
    ],
)
def test_what_nobody_reads_is_one_error(named: str, text: str) -> None:
    Path("empty").mkdir()
    with pytest.raises(DataError, match=text):
        found(named)


def test_two_readers_of_one_file_are_refused() -> None:
    other = reader("other", suffixes=(".toy",))
    with pytest.raises(ConfigError, match=r"several plugins read '\.toy': .*Choose with --dataset"):
        found("by_suffix.toy", None, SUFFIX, other)


def test_a_reader_that_cannot_look_is_named_and_passed_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = reader("broken", reads="toy_readers:raises")
    logger = logging.getLogger("simscaleai")
    logger.addHandler(caplog.handler)
    try:
        assert found("part_1.odd", None, broken, MARKED) == [("part_1.odd", "marked")]
    finally:
        logger.removeHandler(caplog.handler)
    assert "dataset 'broken/broken' cannot tell whether it reads part_1.odd" in caplog.text


def test_sources_are_opened_with_the_reader_s_own_function() -> None:
    (source,) = open_sources(host(), ["part_1.odd"], action_key="a")
    assert (source.path, source.options) == ("part_1.odd", {"action_key": "a"})  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="dataset 'suffix/suffix' gives no episodes"):
        open_sources(host(), ["by_suffix.toy"])


def test_training_looks_into_the_data_once(folder: Path) -> None:
    looked = importlib.import_module("toy_readers").LOOKED
    spec = ModelSpec(name="tiny", target="training_kit:TinyPolicy")
    tiny = Component(plugin="kit", distribution="kit 1.0", spec=spec)
    parts = ("part_1.odd", "part_2.odd")
    for named, places in ((parts[0], parts[:1]), (parts, parts)):
        looked.clear()
        config = config_for(folder / "run", model_name="tiny", dataset_path=named, max_steps=3)
        train_from_config(config, host(MARKED, tiny))
        assert tuple(map(str, looked)) == places
