"""A sound logger, and loggers that break one thing each."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import tempfile
import time
from pathlib import Path

from simscaleai_devkit import LoggerSuite

from .broken import Broken, declared_in

TABLE: list[Broken] = []
fails = declared_in(TABLE)

_NUMBERS = itertools.count()


class Sound:
    """Rows of JSON; written when it is closed."""

    def __init__(self, config, options=None):
        self.path = Path(config.checkpoint_dir) / "rows.json"
        self.rows = None

    def start(self, facts, step):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        old = json.loads(self.path.read_text()) if step and self.path.exists() else []
        self.rows = [r for r in old if r[0] <= step]
        self.write()

    def log(self, metrics, step):
        if self.rows is not None:
            self.rows += [[step, n, float(v)] for n, v in metrics.items()]

    def close(self, status):
        if self.rows is not None:
            self.write()
            self.rows = None

    def write(self):
        self.path.write_text(json.dumps(self.rows))


class SoundLogger(LoggerSuite):
    @classmethod
    def read_back(cls, folder):
        found: dict[str, list[tuple[int, float]]] = {}
        for step, name, value in json.loads((folder / "rows.json").read_text()):
            found.setdefault(name, []).append((step, value))
        return found


@fails("values_read_back", "eval/success_rate")
class DropsEvaluations(Sound):
    def log(self, metrics, step):
        super().log({n: v for n, v in metrics.items() if not n.startswith("eval/")}, step)


@fails("resume_drops_later_rows", "continued at step 4")
class KeepsLaterRows(Sound):
    def start(self, facts, step):
        super().start(facts, 10**9 if step else 0)


@fails("rows_survive_a_failure", "'stopped'")
class LosesStoppedRuns(Sound):
    def close(self, status):
        if status == "stopped":
            self.rows = None
        super().close(status)


@fails("takes_every_number", "float()")
class PlainJson(Sound):
    def log(self, metrics, step):
        if self.rows is not None:
            json.dumps(metrics)
            super().log(metrics, step)


@fails("metrics_are_not_changed", "Copy")
class AddsToMetrics(Sound):
    def log(self, metrics, step):
        super().log(metrics, step)
        metrics["step"] = step


@fails("nothing_before_start", "rows.json")
class OpensEarly(Sound):
    def __init__(self, config, options=None):
        super().__init__(config)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()


@fails("calls_in_any_order", "closing")
class ClosesOnce(Sound):
    def close(self, status):
        self.rows.sort(key=lambda row: row[0])
        super().close(status)


@fails("two_at_once", "instance")
class OneForAll(Sound):
    current = None

    def start(self, facts, step):
        super().start(facts, step)
        OneForAll.current = self

    def log(self, metrics, step):
        if OneForAll.current is not None:
            Sound.log(OneForAll.current, metrics, step)

    def close(self, status):
        super().close(status)
        OneForAll.current = None


@fails("is_silent_on_stdout", "standard error")
class Prints(Sound):
    def log(self, metrics, step):
        super().log(metrics, step)
        print(step, metrics)


@fails("process_is_left_alone", "KIT_RUN")
class SetsEnvironment(Sound):
    def start(self, facts, step):
        super().start(facts, step)
        os.environ["KIT_RUN"] = str(next(_NUMBERS))


@fails("works_offline", "offline")
class NeedsNetwork(Sound):
    def start(self, facts, step):
        socket.getaddrinfo("192.0.2.1", 443)
        super().start(facts, step)


@fails("no_secret_is_written", "about.json")
class StoresEnvironment(Sound):
    def start(self, facts, step):
        super().start(facts, step)
        self.path.with_name("about.json").write_text(json.dumps(dict(os.environ)))


@fails("calls_are_quick", "5 ms")
class IsSlow(Sound):
    def log(self, metrics, step):
        super().log(metrics, step)
        until = time.process_time() + 0.008
        while len(metrics) == 20 and time.process_time() < until:
            pass


@fails("calls_are_quick", "50 ms")
class WaitsForAServer(Sound):
    def log(self, metrics, step):
        super().log(metrics, step)
        time.sleep(0.06 if len(metrics) == 20 else 0)


@fails("temporary_names_differ", "rows.tmp")
class OneTemporaryName(Sound):
    def write(self):
        temporary = Path(tempfile.gettempdir()) / "simscale-kit-rows.tmp"
        temporary.write_text(json.dumps(self.rows))
        shutil.move(temporary, self.path)


@fails("works_in_a_run", "KeyError")
class FailsInRuns(Sound):
    def log(self, metrics, step):
        super().log(metrics, step)
        if "perf/samples_per_s" in metrics:
            raise KeyError("perf")


SOUND = [(SoundLogger, Sound)]
