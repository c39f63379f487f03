"""The public Python names, page by page; docs/generate.py writes the API reference from them."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen

NOTE = "<!-- written by docs/generate.py from docs/api_pages.py and the code's docstrings -->"


@frozen(kw_only=True)
class ApiPage:
    """One page of the API reference."""

    title: str
    """Heading."""
    intro: str
    """What the names are for, in Markdown."""
    names: Mapping[str, Sequence[str]]
    """Module to the names that are imported from it, in the order of the page."""

    def entries(self) -> Iterator[tuple[str, str, Any]]:
        """Yield module, name and object of everything on the page."""
        for module, names in self.names.items():
            home = importlib.import_module(module)
            for name in names:
                yield module, name, getattr(home, name)


def _all_of(module: str) -> Sequence[str]:
    names: Sequence[str] = importlib.import_module(module).__all__
    return names


def _functions_of(module: str) -> Sequence[str]:
    """Return the public functions that a module defines, in the order of its text."""
    home = importlib.import_module(module)
    return [
        name
        for name, value in vars(home).items()
        if inspect.isfunction(value) and value.__module__ == module and not name.startswith("_")
    ]


def pages() -> dict[str, ApiPage]:
    """Return the pages by file name, without suffix."""
    return {**_core_pages(), **_mechanism_pages(), **_distribution_pages()}


def _core_pages() -> dict[str, ApiPage]:
    return {
        "training": ApiPage(
            title="Training and loading",
            intro="What a script uses to train a policy and to load one. "
            "[Configuration](../config.md) lists the fields of `TrainConfig` with their defaults. "
            "A plugin imports `TrainConfig` from `simscaleai_core.config`, which loads no torch.",
            names={
                "simscaleai_core": [
                    "Trainer",
                    "TrainConfig",
                    "load_policy",
                    "load_checkpoint",
                    "ModelRegistry",
                ],
                "simscaleai_core.cli.configuration": ["build_config", "read_toml", "write_toml"],
                "simscaleai_core.host.configuration": ["structure"],
            },
        ),
        "plugin": ApiPage(
            title="Declaring a plugin",
            intro="The hook marker, and the records that a `plugin` module yields. Every record "
            "also has the fields of `ComponentSpec`.",
            names={
                "simscaleai_core.plugin": _all_of("simscaleai_core.plugin"),
                "simscaleai_core": ["lazy_names"],
            },
        ),
        "hookspecs": ApiPage(
            title="Hook signatures",
            intro="All hooks in the order in which a run fires them. Each marks the functions and "
            "methods that implement it. [Hooks](../hooks.md) also lists the records.",
            names={"simscaleai_core.hookspecs": _functions_of("simscaleai_core.hookspecs")},
        ),
        "contracts": ApiPage(
            title="Contracts",
            intro="What each kind of component must do, and the types that pass between them. A "
            "component does not inherit from a protocol; the protocols document the methods and "
            "serve type checkers. [The data format](../data-format.md#a-batch) draws a batch.",
            names={
                "simscaleai_core.contracts": [
                    "Policy",
                    "DescribedDataset",
                    "DataSpec",
                    "Statistics",
                    "Batch",
                    "Collated",
                    "EvalFunction",
                    "Mean",
                    "Precision",
                    "Strategy",
                    "Logger",
                    "CheckpointBackend",
                    "is_sharded",
                    "OptimizerBuilder",
                    "ScheduleBuilder",
                    "TrainStep",
                    "StepResult",
                    "Sampler",
                    "Transform",
                    "Adapter",
                    "Stateful",
                    "StateDict",
                ]
            },
        ),
        "errors": ApiPage(
            title="Errors",
            intro="Everything that a user can cause is a `SimScaleError` with its data as "
            "attributes. [Exit status](../exit-status.md) says how each of them ends a command.",
            names={
                "simscaleai_core.errors": [
                    "SimScaleError",
                    "ConfigError",
                    "UnknownComponentError",
                    "PluginError",
                    "DataError",
                    "CheckpointError",
                    "SaveError",
                    "PolicyError",
                    "EvaluationError",
                    "RankError",
                ]
            },
        ),
    }


def _mechanism_pages() -> dict[str, ApiPage]:
    return {
        "run": ApiPage(
            title="The run",
            intro="`Run` is the `run` that every event hook receives. The classes and functions "
            "below it are building blocks for train steps, loggers, precisions and strategies.",
            names={
                "simscaleai_core.run.state": ["Run", "Counters"],
                "simscaleai_core.run.train_step": [
                    "micro_batches",
                    "backward",
                    "apply_gradients",
                    "MicroBatch",
                    "Supervised",
                ],
                "simscaleai_core.run.metrics": ["scalars_of", "losses_by_source", "add_weighted"],
                "simscaleai_core.run.loggers": ["hyperparameters", "Scalar"],
                "simscaleai_core.run.evaluation": ["gathered"],
                "simscaleai_core.builtin.fp32": ["Float32", "guarded_step"],
                "simscaleai_core.builtin.single": ["SingleDevice", "find_device", "clip_gradients"],
            },
        ),
        "data": ApiPage(
            title="Data and seeds",
            intro="Building blocks for policies, datasets and eval functions.",
            names={
                "simscaleai_core.data.batches": _functions_of("simscaleai_core.data.batches"),
                "simscaleai_core.data.statistics": ["pooled"],
                "simscaleai_core.seeding": [
                    "stream_seed",
                    "seed_everything",
                    "seed_host",
                    "forked_rng",
                    "seeded_host",
                    "capture_rng",
                    "restore_rng",
                ],
                "simscaleai_core.builtin.dummy": ["DummyTrajectoryDataset"],
            },
        ),
        "readers": ApiPage(
            title="Readers of demonstrations",
            intro="What a reader of another layout is written with, and what it becomes. "
            "[Write a reader](../../how-to/write-a-reader.md) shows one.",
            names={
                "simscaleai_core.data.source": [
                    "EpisodeSource",
                    "Episode",
                    "Key",
                    "KeyKind",
                    "natural_order",
                    "ACTIONS",
                ],
                "simscaleai_core.data.windowed": [
                    "WindowedDataset",
                    "Sample",
                    "held_out_positions",
                ],
                "simscaleai_core.data.options": ["WindowOptions"],
                "simscaleai_core.data.mixture": ["Mixture", "mixed_order"],
                "simscaleai_core.data.frames": [
                    *_functions_of("simscaleai_core.data.frames"),
                    "Frames",
                    "FloatRange",
                ],
                "simscaleai_core.data.location": [
                    "Location",
                    *_functions_of("simscaleai_core.data.location"),
                ],
                "simscaleai_core.data.progress": ["told"],
                "simscaleai_core.cli.datasets": ["open_sources"],
            },
        ),
        "checkpoint": ApiPage(
            title="Checkpoints",
            intro="What a checkpoint backend or a listener of `simscale_on_checkpoint_saved` uses. "
            "[Checkpoint format](../checkpoint-format.md) lists the keys.",
            names={
                "simscaleai_core.checkpoint.manifest": [
                    "CheckpointInfo",
                    "list_checkpoints",
                    "read_manifest",
                    "stored_at",
                    "write_manifest",
                ],
                "simscaleai_core.checkpoint.files": [
                    "aside_path",
                    "digest_of",
                    "put_in_place",
                    "remove",
                    "replace",
                    "replace_atomically",
                    "sync",
                ],
                "simscaleai_core.checkpoint.lock": ["identity_of"],
                "simscaleai_core.checkpoint.pickled": ["Described", "Description"],
                "simscaleai_core.checkpoint.schema": ["tensor_mismatches"],
                "simscaleai_core.checkpoint.serialisation": ["to_serialisable"],
                "simscaleai_core.checkpoint.spread": ["is_spread", "whole", "part_of"],
                "simscaleai_core.builtin.pt": ["WITHOUT_DATA", "PtBackend", "read_tree"],
            },
        ),
        "host": ApiPage(
            title="Looking up components",
            intro="For plugins that find components of other plugins by name, as the evaluator "
            "finds environments.",
            names={
                "simscaleai_core.host.facade": ["Host"],
                "simscaleai_core.host.records": ["Component"],
                "simscaleai_core.host.lookup": ["import_target", "not_loaded", "resolve"],
                "simscaleai_core.host.validation": ["implementations"],
                "simscaleai_core.host.selection": ["select_plugins"],
                "simscaleai_core.host.registry": ["read_policy"],
            },
        ),
        "commands": ApiPage(
            title="Output of commands",
            intro="For functions behind an entry point in the group `simscaleai.commands`: results "
            "as tables, or as one JSON object.",
            names={
                "simscaleai_core.cli.terminal": ["escaped"],
                "simscaleai_core.cli.output": [
                    "print_table",
                    "print_facts",
                    "print_json",
                    "print_text",
                    "print_note",
                    "print_warning",
                    "progress",
                    "waiting",
                ],
                "simscaleai_core.cli.quiet": ["with_quiet"],
                "simscaleai_core.cli.configuration": ["parse_literal", "field_docs"],
                "simscaleai_core.cli.flags": ["option_flags"],
                "simscaleai_core.cli.train": ["parameter_of"],
            },
        ),
    }


def _distribution_pages() -> dict[str, ApiPage]:
    return {
        "devkit": ApiPage(
            title="Conformance suites",
            intro="From `simscaleai-devkit`. A subclass of a suite names a component; each check "
            "becomes one test. [Test a plugin](../../how-to/test-a-plugin.md) shows how.",
            names={"simscaleai_devkit": _all_of("simscaleai_devkit")},
        ),
        "bc": ApiPage(
            title="Normalisation",
            intro="From `simscaleai-plugin-bc`: statistics as buffers inside a policy.",
            names={
                "simscaleai_plugin_bc.blocks.normalization": [
                    "Normalizer",
                    "joined_statistics",
                    "NEAR_CONSTANT_STD",
                ],
            },
        ),
        "gym": ApiPage(
            title="Environments, evaluation, recording",
            intro="From `simscaleai-plugin-gym`.",
            names={
                "simscaleai_plugin_gym": _all_of("simscaleai_plugin_gym"),
                "simscaleai_plugin_gym.envs.conditions": ["initial_condition"],
                "simscaleai_plugin_gym.evaluate.commonalities": ["commonalities", "conditions_of"],
                "simscaleai_plugin_gym.rollout.policy_settings": ["PolicySettings"],
                "simscaleai_plugin_gym.executors.hookspecs": [
                    "ExecutorSpec",
                    "gym_register_executors",
                ],
                "simscaleai_plugin_gym.executors.contracts": [
                    "Executor",
                    "Job",
                    "Worker",
                    "worker_of",
                ],
                "simscaleai_plugin_gym.executors.failures": [
                    "RemoteError",
                    "WorkerError",
                    "failure_of",
                ],
            },
        ),
        "hdf5": ApiPage(
            title="HDF5 trajectories",
            intro="From `simscaleai-plugin-hdf5`.",
            names={
                "simscaleai_plugin_hdf5.dataset": ["TrajectoryDataset"],
                "simscaleai_plugin_hdf5.writer": ["EpisodeWriter"],
            },
        ),
        "checking": ApiPage(
            title="Checking demonstrations",
            intro="From `simscaleai-plugin-data`: what `simscale data check` finds.",
            names={
                "simscaleai_plugin_data.checking": ["check_sources", "Checked"],
                "simscaleai_plugin_data.findings": ["Finding", "Kind", "KINDS"],
                "simscaleai_plugin_data.exclusion": ["write_excluded"],
            },
        ),
    }


def texts() -> dict[str, str]:
    """Return the pages of the API reference by file name below docs/reference."""
    return {f"api/{name}.md": _text(page) for name, page in pages().items()}


def _text(page: ApiPage) -> str:
    entries = list(page.entries())
    parts = [f"# {page.title}", NOTE, page.intro]
    for module in page.names:
        names = [(name, value) for home, name, value in entries if home == module]
        summaries = [(f"`{name}`", summary(module, name, value)) for name, value in names]
        directives = "\n".join(_directive(module, name, value) for name, value in names)
        parts += [f"## {module}", _table(("name", "summary"), summaries), *_checks(names)]
        parts.append(f"```{{eval-rst}}\n{directives}\n```")
    return "\n\n".join(parts) + "\n"


def _checks(names: Iterable[tuple[str, Any]]) -> list[str]:
    """Return a table of checks for each conformance suite among the names."""
    parts = []
    for name, value in names:
        checks = getattr(value, "checks", ())
        rows = [(f"`{c.__name__.removeprefix('check_')}`", _first_line(c.__doc__)) for c in checks]
        if rows:
            parts += [f"### Checks of {name}", _table(("check", "what must hold"), rows)]
    return parts


def summary(module: str, name: str, value: Any) -> str:
    """Return the first line of the documentation of a public name."""
    if inspect.isclass(value) or inspect.isroutine(value):
        return _first_line(inspect.getdoc(value))
    return _first_line(_documented_data(module).get(name, ""))


def _documented_data(module: str) -> dict[str, str]:
    """Return the string literals below the assignments of a module, by name."""
    body = ast.parse(inspect.getsource(importlib.import_module(module))).body
    found = {}
    for node, after in itertools.pairwise(body):
        match node, after:
            case (
                ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = text
    return found


def _first_line(text: str | None) -> str:
    paragraph = (text or "").strip().partition("\n\n")[0]
    return " ".join(paragraph.split()).replace("``", "`")


def _directive(module: str, name: str, value: Any) -> str:
    if inspect.isclass(value) and issubclass(value, Exception):
        return f".. autoexception:: {module}.{name}\n   :show-inheritance:\n"
    if inspect.isclass(value):
        without = "   :exclude-members: checks, kind\n" if hasattr(value, "checks") else ""
        return f".. autoclass:: {module}.{name}\n{without}"
    if inspect.isroutine(value):
        return f".. autofunction:: {module}.{name}\n"
    return f".. autodata:: {module}.{name}\n   :no-value:\n"


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in lines)
