"""No key, no network, a server that refuses: the run goes on offline, soon, with one warning."""

from __future__ import annotations

import http.server
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from simscaleai_plugin_wandb import connection
from simscaleai_plugin_wandb.connection import obstacle
from simscaleai_plugin_wandb.logger import WandbLogger
from simscaleai_plugin_wandb.options import WandbOptions

pytestmark = pytest.mark.slow

KEY = "a" * 40


class _Refusal(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_error(401)

    do_GET = do_POST = do_HEAD

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def refusing_server() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refusal)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def silent_server() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING
            and r.name == "simscaleai"]  # fmt: skip


def test_without_a_key_the_run_is_offline(
    config: Callable[..., Any], small_train: Callable[..., None], recorded: Callable[..., Any],
    logged: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    small_train(config())
    (message,) = _warnings(caplog)
    assert message.startswith("wandb: no API key is configured. The run is recorded offline;")
    assert recorded(tmp_path)[0].rows == logged(tmp_path / "run")


@pytest.mark.parametrize("mode", [None, "online"])
def test_without_a_network_the_run_is_offline_at_once(
    mode: str | None, nowhere: str, config: Callable[..., Any], small_train: Callable[..., None],
    recorded: Callable[..., Any], logged: Callable[..., Any], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", nowhere)
    begin = time.monotonic()
    small_train(config(options={"wandb": {"mode": mode}} if mode else {}))
    assert time.monotonic() - begin < 20
    (message,) = _warnings(caplog)
    assert nowhere in message and "cannot be reached" in message
    assert recorded(tmp_path)[0].rows == logged(tmp_path / "run")


def test_a_silent_server_is_given_up_in_time(
    silent_server: str, config: Callable[..., Any], recorded: Callable[..., Any], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", silent_server)
    tracker = WandbLogger(config(), WandbOptions(init_timeout_s=0.5))
    begin = time.monotonic()
    tracker.start({}, 0)
    assert time.monotonic() - begin < 5
    tracker.log({"a": 1.0}, 1)
    tracker.close("done")
    assert len(_warnings(caplog)) == 1
    assert recorded(tmp_path)[0].rows == {1: {"a": 1.0}}


def test_a_refused_key_leaves_an_offline_run_under_the_same_id(
    refusing_server: str, config: Callable[..., Any], recorded: Callable[..., Any],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", refusing_server)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "wandb_run.json").write_text('{"id": "abcd1234", "project": "tests"}')
    monkeypatch.setenv("WANDB_SILENT", "false")
    wandb.teardown()
    tracker = WandbLogger(config())
    tracker.start({}, 10)
    tracker.log({"a": 1.0}, 11)
    tracker.close("done")
    (message,) = _warnings(caplog)
    assert "401" in message
    run = recorded(tmp_path)[-1]
    assert run.run_id == "abcd1234" and run.rows == {11: {"a": 1.0}}
    assert capfd.readouterr().out == ""


def test_a_refused_key_leaves_the_run_of_the_caller_alone(
    refusing_server: str, config: Callable[..., Any], recorded: Callable[..., Any],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    own = wandb.init(project="own", mode="offline", dir=str(tmp_path / "own"))
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(connection, "_silence", lambda *_: "")
    monkeypatch.setenv("WANDB_BASE_URL", refusing_server)
    failures = []
    real = wandb.init

    def init(**given: Any) -> Any:
        if given["mode"] == "online":
            failures.append(given["id"])
            raise wandb.errors.CommError("refused")
        return real(**given)

    monkeypatch.setattr(wandb, "init", init)
    tracker = WandbLogger(config())
    tracker.start({}, 0)
    tracker.log({"a": 1.0}, 1)
    tracker.close("done")
    assert wandb.run is own
    own.finish()
    kept = json.loads((tmp_path / "run" / "wandb_run.json").read_text())["id"]
    assert failures and kept not in failures
    assert recorded(tmp_path / "run")[-1].run_id == kept


def test_a_key_in_netrc_counts_for_its_host_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "netrc"
    path.write_text(f"machine wandb.example.org login user password {KEY}\n")
    path.chmod(0o600)
    assert obstacle(1.0) == "no API key is configured"
    wandb.teardown()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    monkeypatch.setattr(connection, "_silence", lambda *_: "")
    assert obstacle(1.0) is None


def test_the_proxy_of_the_environment_is_asked(
    refusing_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://nowhere.invalid")
    assert "cannot be reached" in str(obstacle(5.0))
    monkeypatch.setenv("http_proxy", refusing_server)
    assert obstacle(5.0) is None


@pytest.mark.parametrize(
    ("option", "environment", "mode"),
    [(None, "offline", "offline"), ("disabled", "offline", "disabled"),
     ("offline", "online", "offline"), (None, "", "online")],
)  # fmt: skip
def test_the_option_wins_over_the_environment(
    option: str | None, environment: str, mode: str, config: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if environment:
        monkeypatch.setenv("WANDB_MODE", environment)
    assert WandbLogger(config(), WandbOptions(mode=option))._mode() == mode
