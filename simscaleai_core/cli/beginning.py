"""What is said before a run begins: what it trains on, and what it was probably not meant to do."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from simscaleai_core.cli.datasets import Found
from simscaleai_core.cli.output import print_note
from simscaleai_core.cli.recommended import spec_of
from simscaleai_core.cli.terminal import is_first_rank
from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import ConfigError
from simscaleai_core.host.facade import Host

if TYPE_CHECKING:
    from simscaleai_core.cli.from_config import LoadedData

logger = logging.getLogger("simscaleai")

_MAX_NAMES = 8


def check_first_weights(config: TrainConfig) -> None:
    """Check that a run's first weights stay where they are.

    Args:
        config: The configuration.

    Raises:
        ConfigError: If they are a checkpoint of an earlier run that has to make way for this one.
    """
    first = config.init_from
    if not first or config.resume_from:
        return
    place = Path(config.checkpoint_dir)
    if Path(first).resolve().parent == place.resolve():
        raise ConfigError(
            f"init_from {first!r} is in the checkpoint_dir of the new run: expected another "
            f"directory, got {str(place)!r}. Name one with --checkpoint-dir."
        )


def warn_of_short_run(config: TrainConfig, host: Host, given: Collection[str]) -> None:
    """Warn of a run that is too short for a learning rate that nobody chose.

    Args:
        config: The configuration, complete.
        host: Knows what the model recommends.
        given: Fields that the user set.
    """
    usual = TrainConfig().max_steps
    model = host.component("model", config.model_name)
    better = spec_of(model).recommended.get("lr", 0.0)
    is_default = not {"lr", "optimizer", "schedule", "resume_from"} & set(given)
    if is_default and better > config.lr and 10 * config.max_steps <= usual and is_first_rank():
        logger.warning(
            "max_steps=%d is short for the default lr=%g, which is for some %d steps: %s recommends"
            " lr=%g. Add --recommended, or give --lr.",
            config.max_steps, config.lr, usual, model.id, better,
        )  # fmt: skip


def warn_of_dummy_data(config: TrainConfig) -> None:
    """Warn if no data was named."""
    if not config.dataset_path and config.dataset_name is None and is_first_rank():
        logger.warning(
            "no data was named: the run trains on random numbers, the dummy dataset. Name yours "
            "with --dataset."
        )


def warn_of_no_evaluation(config: TrainConfig, data: LoadedData, given: Collection[str]) -> None:
    """Warn if evaluations were asked for and there is nothing to evaluate on.

    Args:
        config: The configuration, complete.
        data: What the run trains on.
        given: Fields that the user set.
    """
    if data.eval_loader is not None or not is_first_rank():
        return
    reason = "eval_fraction is 0"
    if config.eval_fraction:
        is_single = data.spec is not None and data.spec.num_episodes == 1
        reason = "the data has a single episode" if is_single else "the data cannot be split"
        logger.warning("no held-out loss: %s", reason)
    if "eval_every" in given and config.eval_every and not config.eval_fns:
        logger.warning(
            "eval_every=%d has no effect: nothing is held out (%s), and no eval function is named. "
            "Add --env or --eval-fn, or hold episodes out.", config.eval_every, reason,
        )  # fmt: skip


def describe_data(config: TrainConfig, found: Sequence[Found], data: LoadedData) -> None:
    """Print what a run trains on, unless nobody follows it on the console.

    Args:
        config: The configuration, complete.
        found: Where the data is.
        data: What was read.
    """
    is_shown = any(name.rpartition("/")[2] == "console" for name in config.loggers)
    if not is_shown or not is_first_rank():
        return
    names = [part.path or part.reader.spec.name for part in found]
    counts = []
    if data.spec is not None and data.spec.num_episodes:
        counts.append(f"{data.spec.num_episodes} episodes")
    counts.append(f"{len(data.train_loader.dataset)} samples")  # type: ignore[arg-type]
    if data.eval_loader is not None:
        counts.append(f"{len(data.eval_loader.dataset)} samples held out")  # type: ignore[arg-type]
    print_note(f"  dataset: {_listed(names)}: {', '.join(counts)}")
    if data.spec is not None:
        keys = [f"{key} {list(shape)}" for key, shape in data.spec.observations.items()]
        print_note(f"  observations: {_listed(keys)}")
        print_note(f"  actions: [{data.spec.action_dim}]")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more
