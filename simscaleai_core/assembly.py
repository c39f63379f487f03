"""The composition root: `Trainer` builds what the configuration names and runs the loop."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from simscaleai_core import building
from simscaleai_core.builtin.heldout import HeldOutLoss
from simscaleai_core.checkpoints import CheckpointStore
from simscaleai_core.config import TrainConfig
from simscaleai_core.contracts import DataSpec, EvalFunction
from simscaleai_core.feed import Feed, build_feed, describe
from simscaleai_core.host import Host, compile_events, naming_origin, select_plugins
from simscaleai_core.loggers import LoggerGroup
from simscaleai_core.loop import Loop
from simscaleai_core.mechanisms import Precision, Strategy, is_sharded
from simscaleai_core.parts import Parts
from simscaleai_core.ranks import check_ranks_agree
from simscaleai_core.saver import Saver
from simscaleai_core.seeding import seed_everything, stream_seed
from simscaleai_core.slots import check_option_tables, fill_slots, used_plugins, warn_of_unused
from simscaleai_core.state import Run


class Trainer:
    """Trains a policy on the batches of a loader.

    Args:
        model: The policy, an ``nn.Module`` with ``forward(batch) -> {"loss": ...}``.
        train_loader: An ordinary ``DataLoader``; its sampler is replayed so that resume is exact.
        config: The configuration; the defaults if None.
        eval_loader: Held-out data; gives ``eval/loss``.
        eval_fn: Called with the policy at each evaluation; its numbers are logged under ``eval/``.
        host: Finds plugins; one of its own if None. With one given, the slots of the configuration
            are taken as filled.
        listeners: Objects with event hooks of `simscaleai_core.hookspecs`, besides those of the
            extensions that the configuration names.

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
    ) -> None:
        config = config or TrainConfig()
        self.host = host or Host(select_plugins(config.plugins))
        self.config = config if host else fill_slots(config, self.host)
        self.policy = model
        self._train_loader = train_loader
        self._eval_loader = eval_loader
        self._eval_fn = eval_fn
        self._listeners = listeners
        check_option_tables(self.config, self.host)
        self._backend = self._build("checkpoint_backend", self.config.checkpoint_backend)

    @property
    def final_checkpoint(self) -> Path:
        """Where the checkpoint of the finished run is."""
        return Path(self.config.checkpoint_dir) / f"final{self._backend.suffix}"

    def train(self) -> dict[str, float]:
        """Run to `max_steps`, or to a stop.

        Returns:
            ``final_loss`` (training loss, mean over the last logging window), ``global_step`` and
            ``best_eval_loss``.

        Raises:
            SimScaleError: If data, policy, configuration or checkpoint do not fit together.
        """
        config = self.config
        strategy: Strategy = self._build("strategy", _strategy_name(config))
        feed = build_feed(
            self._train_loader,
            seed=config.seed,
            rank=strategy.rank,
            world_size=strategy.world_size,
            has_keys=bool(getattr(self.policy, "wants_sample_keys", False)),
        )
        data = describe(self._train_loader)
        adapt: Callable[[DataSpec], None] | None = getattr(self.policy, "adapt_to", None)
        if data is not None and adapt is not None:
            adapt(data)
        seed_everything(stream_seed(config.seed, "train", strategy.rank))
        precision, note = self._precision(strategy)
        self.policy.to(strategy.device)
        run = Run(config=config, policy=self.policy, precision=precision, strategy=strategy)
        run.facts.update(self._facts(run, feed, data, note))
        check_ranks_agree(strategy, config, run.facts)
        parts = self._parts(run, feed, data)
        run.hook = parts.events.hook
        with naming_origin(self.host.components):
            return Loop(run, parts).train()

    def _build(self, kind: str, name: str) -> Any:
        return building.build_part(self.host, kind, name, self.config)

    def _parts(self, run: Run, feed: Feed, data: DataSpec | None) -> Parts:
        config, strategy = self.config, run.strategy
        names = config.loggers if strategy.rank == 0 else ()
        loggers = [(n, self._build("logger", n)) for n in names]
        extensions = [(n, self._build("extension", n)) for n in config.extensions]
        evals = self._evals(strategy)
        listeners: list[tuple[str, object]] = [
            ("strategy", strategy),
            ("precision", run.precision),
            ("checkpoint_backend", self._backend),
            ("policy", self.policy),
            *extensions,
            *evals,
            *loggers,
            *((f"listener {type(x).__name__}", x) for x in self._listeners),
        ]
        store = CheckpointStore(
            Path(config.checkpoint_dir),
            self._backend,
            backend_name=config.checkpoint_backend,
            keep_last=config.keep_last,
            rank=strategy.rank,
            writer=strategy.broadcast(os.getpid()) if is_sharded(self._backend) else None,
        )
        return Parts(
            feed=feed,
            store=store,
            saver=Saver(store),
            logger=LoggerGroup(loggers),
            evals=evals,
            events=compile_events(listeners, self.host.own_hooks()),
            about={"policy": self._about_policy(), "data": _about_data(data)},
        )

    def _precision(self, strategy: Strategy) -> tuple[Precision, str]:
        config, note = self.config, ""
        name = config.precision
        if name is None:
            name = "fp32"
            offered = {c.spec.name for c in self.host.of_kind("precision")}
            if config.use_amp and strategy.device.type == "cpu":
                note = " (use_amp takes effect on CUDA and MPS)"
            elif config.use_amp and "amp" in offered:
                name = "amp"
            elif config.use_amp:
                note = " (use_amp needs simscaleai-plugin-amp, which is not installed)"
        precision: Precision = self._build("precision", name)
        precision.setup(strategy.device)
        return precision, note

    def _evals(self, strategy: Strategy) -> list[tuple[str, EvalFunction]]:
        evals: list[tuple[str, EvalFunction]] = []
        if self._eval_loader is not None:
            evals.append(
                ("held_out_loss", HeldOutLoss(self._eval_loader, strategy, seed=self.config.seed))
            )
        evals += [(n, self._build("eval_function", n)) for n in self.config.eval_fns]
        if self._eval_fn is not None:
            evals.append(("eval_fn", self._eval_fn))
        return evals

    def _facts(
        self, run: Run, feed: Feed, data: DataSpec | None, precision_note: str
    ) -> dict[str, Any]:
        facts = feed.facts
        return {
            "policy": type(self.policy).__name__,
            "device": str(run.strategy.device),
            "strategy": run.strategy.effective,
            "precision": run.precision.effective + precision_note,
            "world_size": run.strategy.world_size,
            "threads": torch.get_num_threads(),
            "data": data.fingerprint if data else "",
            "order": facts.order,
            "workers": facts.workers,
            "torch": str(torch.__version__),
            "plugins": self.host.versions(used_plugins(self.config, self.host)),
        }

    def _about_policy(self) -> dict[str, Any]:
        kind = type(self.policy)
        return {
            "component": building.component_of(self.host, self.policy),
            "class": f"{kind.__module__}:{kind.__qualname__}",
            "hparams": getattr(self.policy, "hparams", None),
        }


def train_from_config(
    config: TrainConfig, host: Host, given: Iterable[str] | None = None
) -> tuple[Trainer, dict[str, float]]:
    """Build data and policy from the configuration alone and train; what the command line runs.

    Args:
        config: The configuration.
        host: Finds plugins.
        given: Fields that the user set; those that differ from their default if None.

    Returns:
        The trainer and what its `train` returned.

    Raises:
        SimScaleError: If something named is missing or does not fit.
    """
    config = building.with_ids(fill_slots(config, host, given), host)
    check_option_tables(config, host)
    warn_of_unused(config, host)
    with naming_origin(host.components):
        data = building.load_data(host, config)
        policy = building.build_policy(host, config, data.spec)
    trainer = Trainer(policy, data.train_loader, config, data.eval_loader, host=host)
    return trainer, trainer.train()


def _strategy_name(config: TrainConfig) -> str:
    several = config.distributed or int(os.environ.get("WORLD_SIZE", "1")) > 1
    return config.strategy or ("ddp" if several else "single")


def _about_data(data: DataSpec | None) -> dict[str, Any]:
    if data is None:
        return {}
    return {
        "fingerprint": data.fingerprint,
        "observations": {k: list(shape) for k, shape in data.observations.items()},
        "action_dim": data.action_dim,
        "num_episodes": data.num_episodes,
        "num_samples": data.num_samples,
        "env": data.env,
    }
