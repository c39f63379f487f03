"""Leaving parameters as they are."""

from __future__ import annotations

from fnmatch import fnmatchcase

from simscaleai_core.config import TrainConfig
from simscaleai_core.errors import ConfigError
from simscaleai_core.hookspecs import simscale_on_run_setup
from simscaleai_core.run.state import Run
from simscaleai_plugin_extensions.options import FreezeOptions

_SHOWN = 8


class Freeze:
    """Freezes the parameters whose names match; they get no gradient and no weight decay.

    Buffers, such as the running statistics of batch normalisation, are not parameters and go on.

    Args:
        config: The run's configuration.
        options: The extension's options.

    Raises:
        ConfigError: If there is no pattern.
    """

    def __init__(self, config: TrainConfig, options: FreezeOptions | None = None) -> None:
        del config
        self._patterns = (options or FreezeOptions()).patterns
        if not self._patterns:
            raise ConfigError(
                "the extension 'freeze' freezes nothing: expected names of parameters, got none. "
                "Set --freeze.patterns, such as 'encoder.*'."
            )

    @simscale_on_run_setup
    def freeze(self, run: Run) -> None:
        """Freeze.

        Args:
            run: The run.

        Raises:
            ConfigError: If a pattern matches nothing, or nothing would be left to train.
        """
        parameters = dict(run.policy.named_parameters())
        problems = [
            f"the pattern {pattern!r} of the extension 'freeze' matches no parameter. "
            f"Found: {_shown(list(parameters))}."
            for pattern in self._patterns
            if not any(fnmatchcase(name, pattern) for name in parameters)
        ]
        frozen = [n for n in parameters if any(fnmatchcase(n, p) for p in self._patterns)]
        if not problems and not any(
            p.requires_grad for n, p in parameters.items() if n not in frozen
        ):
            problems.append(
                f"the extension 'freeze' would leave nothing to train: all {len(parameters)} "
                f"parameters match {', '.join(map(repr, self._patterns))}. Use narrower patterns."
            )
        if problems:
            raise ConfigError(*problems)
        for name in frozen:
            parameters[name].requires_grad_(False)
        run.facts["frozen"] = f"{len(frozen)} of {len(parameters)} parameter tensors"


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
