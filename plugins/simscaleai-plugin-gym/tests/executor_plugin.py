"""A third party's plugin: an executor that shares no disk and gives the last result first."""

import pickle
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import frozen
from simscaleai_plugin_gym.executors.contracts import worker_of
from simscaleai_plugin_gym.executors.hookspecs import ExecutorSpec, gym_register_executors

from simscaleai_core.plugin import PluginInfo

PLUGIN = PluginInfo(summary="Elsewhere")


@gym_register_executors
def executors():
    yield ExecutorSpec(
        name="elsewhere",
        target="executor_plugin:Elsewhere",
        options="executor_plugin:Options",
        summary="another machine",
    )


@frozen(kw_only=True)
class Options:
    room: int = 1
    """Tasks at a time."""


class Elsewhere:
    shares_disk = False
    rooms = []

    def __init__(self, job, workers, options):
        self.job, self.workers, self.place = job, workers, TemporaryDirectory()
        self.rooms.append((options.room, workers))

    def run(self, tasks, report):
        files = [Path(self.place.name) / file.name for file in self.job.files]
        for here, there in zip(self.job.files, files, strict=True):
            if here.exists():  # some tests have no file of a policy
                shutil.copy(here, there)
        worker = worker_of(self.job.worker, pickle.loads(pickle.dumps(self.job.settings)), files)
        for index, task in reversed(list(enumerate(tasks))):
            yield (
                index,
                pickle.loads(pickle.dumps(worker.run(pickle.loads(pickle.dumps(task)), report))),
            )
        worker.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.place.cleanup()
