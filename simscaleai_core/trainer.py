"""The composition root: `Trainer` builds what the configuration names and runs the loop."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from simscaleai_core.checkpoint.background import Saver
from simscaleai_core.checkpoint.lock import launcher
from simscaleai_core.checkpoint.manifest import list_checkpoints
from simscaleai_core.checkpoint.store import CheckpointStore
from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import DataSpec, EvalFunction, Precision, Strategy, is_sharded
from simscaleai_core.data.feed import Feed, build_feed, describe
from simscaleai_core.errors import ConfigError
from simscaleai_core.host import components, defaults
from simscaleai_core.host.events import compile_events
from simscaleai_core.host.facade import Host
from simscaleai_core.host.records import Component, naming_origin
from simscaleai_core.host.registry import migrated, take_weights
from simscaleai_core.host.selection import select_plugins
from simscaleai_core.loop import Loop
from simscaleai_core.run.drift import check_ranks_agree
from simscaleai_core.run.evaluation import held_out_loss
from simscaleai_core.run.loggers import LoggerGroup
from simscaleai_core.run.state import Run
from simscaleai_core.seeding import seed_everything, stream_seed

_ONE_OF = ("optimizer", "schedule", "train_step", "sampler")
_SEVERAL = ("transforms", "adapters")


class Trainer:
    """Trains a policy on the batches of a loader.

    Args:
        model: The policy, an ``nn.Module`` with ``forward(batch) -> {"loss": ...}``.
        train_loader: An ordinary ``DataLoader``; its sampler is replayed so that resume is exact.
        config: The configuration; the defaults if None.
        eval_loader: Held-out data; gives ``eval/loss``.
        eval_fn: Called with the policy at each evaluation; its numbers are logged under ``eval/``.
        host: Finds plugins; one of its own if None. With one given, the configuration is taken as
            complete: no plugin's selection is added.
        listeners: Objects with event hooks of `simscaleai_core.hookspecs`, besides those of the
            extensions that the configuration names.
        built: Components that the caller has built, such as the dataset, each with its keyword
            arguments; another value of one on resume is refused.

    Raises:
        ConfigError: If the configuration names something that is not installed or does not fit.

    Example:
        >>> from torch.utils.data import DataLoader
        >>> from simscaleai_core import Trainer, TrainConfig
        >>> from simscaleai_core.builtin.dummy import DummyTrajectoryDataset
        >>> class Mean(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.action = torch.nn.Parameter(torch.zeros(4))
        ...     def forward(self, batch):
        ...         return {"loss": (batch["actions"] - self.action).square().mean()}
        >>> config = TrainConfig(max_steps=3, checkpoint_dir="checkpoints", loggers=())
        >>> loader = DataLoader(DummyTrajectoryDataset(64), batch_size=32, shuffle=True)
        >>> Trainer(Mean(), loader, config).train()["global_step"]
        3
    """

    def __init__(
        self,
        model: nn.Module,
        train_loader: Any,
        config: TrainConfig | None = None,
        eval_loader: Any = None,
        eval_fn: EvalFunction | None = None,
        *,
        host: Host | None = None,
        listeners: Sequence[object] = (),
        built: Sequence[tuple[Component, Mapping[str, Any]]] = (),
    ) -> None:
        config = TrainConfig() if config is None else config
        check_arguments(model, train_loader, config)
        self.host = host or Host(select_plugins(config.plugins))
        self.config = config if host else defaults.fill_defaults(config, self.host)
        self.policy = model
        self._train_loader = train_loader
        self._eval_loader = eval_loader
        self._eval_fn = eval_fn
        self._listeners = listeners
        self._built = built
        defaults.check_option_tables(self.config, self.host)
        self._directory = Path(self.config.checkpoint_dir)
        self._transforms = components.transforms_of(self.host, self.config)
        self._backend = self._build("checkpoint_backend", self.config.checkpoint_backend)

    @property
    def final_checkpoint(self) -> Path:
        """Where the checkpoint of the finished run is."""
        return self._directory / f"final{self._backend.suffix}"

    def train(self) -> dict[str, float]:
        """Run to `max_steps`, or to a stop.

        Returns:
            ``final_loss`` (training loss, mean over the last logging window), ``global_step`` and
            ``best_eval_loss``.

        Raises:
            SimScaleError: If data, policy, configuration or checkpoint do not fit together.
        """
        with naming_origin(self.host.components), _threads(self.config.threads):
            strategy: Strategy = self._build("strategy", defaults.strategy_name(self.config))
            try:
                loop = self._loop(*self._run(strategy))
            except BaseException:
                strategy.teardown("failed")
                raise
            return loop.train()

    def _run(self, strategy: Strategy) -> tuple[Run, Feed]:
        config = self.config
        feed = build_feed(
            self._train_loader,
            seed=config.seed,
            rank=strategy.rank,
            world_size=strategy.world_size,
            has_keys=bool(getattr(self.policy, "wants_sample_keys", False)),
            accumulate=config.accumulate,
            sampler=(config.sampler, self._build("sampler", config.sampler))
            if config.sampler
            else None,
            transforms=self._transforms,
        )
        data = describe(self._train_loader, self._transforms)
        component, adapters = self._prepare_policy(data)
        seed_everything(stream_seed(config.seed, "train", strategy.rank))
        name, note = defaults.precision_name(config, self.host, strategy.device.type)
        precision: Precision = self._build("precision", name)
        precision.setup(strategy.device)
        if not getattr(strategy, "places_policy", False):
            self.policy.to(strategy.device)
        run = Run(
            config=config,
            policy=self.policy,
            precision=precision,
            strategy=strategy,
            build_optimizer=components.maker(self.host, "optimizer", config.optimizer, config),
            build_schedule=components.maker(self.host, "schedule", config.schedule, config),
            migrate=partial(migrated, self.host),
            component=component,
            adapters=adapters,
            data_spec=data,
            data=getattr(self._train_loader, "dataset", self._train_loader),
        )
        self._note_settings(run, name)
        run.facts.update(self._facts(run, feed, note))
        check_ranks_agree(run)
        return run, feed

    def _prepare_policy(self, data: DataSpec | None) -> tuple[str | None, list[dict[str, Any]]]:
        """Give the policy its statistics, first weights and adapters; return what it is."""
        config, reference = self.config, self.config.resume_from
        adapt: Callable[[DataSpec], None] | None = getattr(self.policy, "adapt_to", None)
        if data is not None and adapt is not None:
            adapt(data)
        component = components.component_of(self.host, self.policy)
        is_resumed = reference and (reference != "auto" or list_checkpoints(self._directory))
        if config.init_from and not is_resumed:
            take_weights(self.host, self.policy, config)
        seed_everything(stream_seed(config.seed, "adapters"))
        self.policy, adapters = components.adapt(self.host, self.policy, config)
        return component, adapters

    def _note_settings(self, run: Run, precision: str) -> None:
        """Note which components, with which options, training depends on."""
        config, find = self.config, self.host.component
        one = {kind: find(kind, getattr(config, kind)) for kind in _ONE_OF if getattr(config, kind)}
        many = {kinds: [find(kinds[:-1], n) for n in getattr(config, kinds)] for kinds in _SEVERAL}
        used = [("precision", precision), ("strategy", defaults.strategy_name(config))]
        used += [("extension", extension) for extension in config.extensions]
        used += [("model", run.component)] if run.component else []
        found = [*(find(*names) for names in used), *one.values(), *chain(*many.values())]
        built = [*((component, {}) for component in found), *self._built]
        run.settings, run.on_resume, run.defaults = components.settings_in_effect(config, built)
        run.settings |= {"sampler": None, **{kind: c.id for kind, c in one.items()}}
        run.settings |= {kinds: [c.id for c in cs] for kinds, cs in many.items()}

    def _build(self, kind: str, name: str) -> Any:
        return components.build_component(self.host, kind, name, self.config)

    def _loop(self, run: Run, feed: Feed) -> Loop:
        config, strategy = self.config, run.strategy
        names = config.loggers if strategy.rank == 0 else ()
        loggers = [(n, self._build("logger", n)) for n in names]
        extensions = [(n, self._build("extension", n)) for n in config.extensions]
        evals = self._evals(strategy)
        run.train_step = self._build("train_step", config.train_step)
        listeners: list[tuple[str, object]] = [
            ("strategy", strategy),
            ("precision", run.precision),
            ("checkpoint_backend", self._backend),
            ("policy", self.policy),
            ("train_step", run.train_step),
            *extensions,
            *evals,
            *loggers,
            *((f"listener {type(x).__name__}", x) for x in self._listeners),
        ]
        store = CheckpointStore(
            self._directory,
            self._backend,
            backend_name=config.checkpoint_backend,
            keep_last=config.keep_last,
            rank=strategy.rank,
            writer=strategy.broadcast(os.getpid()) if is_sharded(self._backend) else os.getpid(),
            launchers=strategy.gather(launcher()),
        )
        run.events = compile_events(listeners, self.host.own_hooks())
        return Loop(
            run=run,
            feed=feed,
            store=store,
            saver=Saver(store),
            loggers=LoggerGroup(loggers),
            evals=evals,
        )

    def _evals(self, strategy: Strategy) -> list[tuple[str, EvalFunction]]:
        evals = [(n, self._build("eval_function", n)) for n in self.config.eval_fns]
        if self._eval_loader is not None:
            held_out = partial(
                held_out_loss,
                loader=self._eval_loader,
                strategy=strategy,
                seed=self.config.seed,
                transforms=[
                    t for t in self._transforms if not getattr(t[1], "only_training", False)
                ],
            )
            evals.insert(0, ("held_out_loss", held_out))
        if self._eval_fn is not None:
            evals.append(("eval_fn", self._eval_fn))
        return evals

    def _facts(self, run: Run, feed: Feed, precision_note: str) -> dict[str, Any]:
        policy_plugin = (run.component or "").partition("/")[0]  # whatever the configuration names
        used = {*defaults.used_plugins(self.config, self.host), policy_plugin}
        return {
            "policy": type(self.policy).__name__,
            "device": str(run.strategy.device),
            "strategy": run.strategy.effective,
            "precision": run.precision.effective + precision_note,
            "world_size": run.strategy.world_size,
            "threads": torch.get_num_threads(),
            "data": run.data_spec.fingerprint if run.data_spec else "",
            **feed.facts,
            "torch": str(torch.__version__),
            "plugins": {r.name: r.source for r in self.host.records if r.name in used},
        }


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Have torch compute on the CPU with so many threads, if a number is given."""
    before = torch.get_num_threads()
    if number is not None:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        if number is not None:
            torch.set_num_threads(before)


def check_arguments(policy: Any, loader: Any, config: Any) -> None:
    """Refuse what cannot be trained with, before anything is built.

    Raises:
        ConfigError: If something is of the wrong kind; all of it is named.
    """
    rules = {
        "model": (policy, isinstance(policy, nn.Module), "an nn.Module"),
        "train_loader": (loader, hasattr(loader, "__iter__"), "a DataLoader"),
        "config": (config, isinstance(config, TrainConfig), "a TrainConfig"),
    }
    found = [
        f"{name}: expected {wanted}, got {type(value).__name__}."
        for name, (value, fits, wanted) in rules.items()
        if not fits
    ]
    if not found and (lazy := [n for n, p in policy.named_parameters() if is_lazy(p)]):
        names = ", ".join(lazy[:5])
        found = [f"model: expected parameters with a shape, got {names}. Call it on a batch first."]
    if found:
        raise ConfigError(*found)
