"""`TrainConfig`: every setting of a training run, flat and frozen.

The first blocks are the seed document's fields with its names and defaults; the last block is what
a reproducible run needs besides. Every field is documented where it stands, and that text is also
the command line's help.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from attrs import Attribute, field, frozen
from attrs.validators import optional

from simscaleai_core.errors import ConfigError

Validator = Callable[[Any, "Attribute[Any]", Any], None]


def _expect(expected: str, accepts: Callable[[Any], bool]) -> Validator:
    def validate(instance: object, attribute: Attribute[Any], value: Any) -> None:
        del instance
        if not accepts(value):
            raise ConfigError(f"field {attribute.name!r}: expected {expected}, got {value!r}")

    return validate


def _integer(low: int, high: int = 2**63 - 1) -> Validator:
    def validate(instance: object, attribute: Attribute[Any], value: Any) -> None:
        del instance
        is_integer = isinstance(value, int) and not isinstance(value, bool)
        if not is_integer or not low <= value <= high:
            limit = f"most {high}" if is_integer and value > high else f"least {low}"
            name = attribute.name
            raise ConfigError(f"field {name!r}: expected an integer of at {limit}, got {value!r}")

    return validate


def _real(rule: str, accepts: Callable[[float], bool]) -> Validator:
    def check(value: Any) -> bool:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return is_number and abs(value) <= sys.float_info.max and accepts(value)

    return _expect(f"a finite number {rule}", check)


def _text(*, optional: bool = False) -> Validator:
    wanted = "text or nothing" if optional else "text"
    return _expect(wanted, lambda v: isinstance(v, str) or (optional and v is None))


def _path(*empty: str | None) -> Validator:
    def accepts(value: Any) -> bool:
        if value in empty or not isinstance(value, str) or not value:
            return value in empty
        names = value.encode("utf-8", "surrogatepass").split(b"/")
        return not any(b"\0" in name or len(name) > 255 for name in names)

    wanted = "a path with names of at most 255 bytes and without NUL"
    return _expect(f"{wanted}, or nothing" if empty else wanted, accepts)


def _choice(*names: str) -> Validator:
    return _expect(" or ".join(repr(n) for n in names), lambda v: v in names)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _as_data(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (list, tuple)):
        return tuple(map(_as_data, value)) if len(value) != 1 else _as_data(value[0])
    return value


def _data(instance: object, attribute: Attribute[Any], value: Any) -> None:
    check_path = _path("")
    for entry in value if isinstance(value, tuple) else (value,):
        is_table = isinstance(entry, Mapping) and isinstance(entry.get("path"), str)
        check_path(instance, attribute, entry["path"] if is_table else entry)


_SWITCH = _expect("true or false", lambda v: isinstance(v, bool))
_NAMES = _expect(
    "a list of names, each once",
    lambda v: (
        isinstance(v, tuple)
        and all(isinstance(name, str) and name for name in v)
        and len(set(v)) == len(v)
    ),
)
_WEIGHTS = _expect(
    "finite numbers above 0",
    lambda v: (
        isinstance(v, tuple)
        and all(isinstance(w, (int, float)) and 0 < w <= sys.float_info.max for w in v)
    ),
)
_TABLE = _expect(
    "a table of named values",
    lambda v: isinstance(v, Mapping) and all(isinstance(key, str) for key in v),
)


@frozen(kw_only=True)
class TrainConfig:
    """Configuration of one training run.

    Raises:
        ConfigError: If a field has the wrong type or is out of range.

    Example:
        >>> TrainConfig(max_steps=10, lr=1e-3).max_steps
        10
    """

    model_name: str = field(default="bc", validator=_text())
    """Model component to build: a short name or `plugin/name`."""
    model_kwargs: Mapping[str, Any] = field(factory=dict, validator=_TABLE)
    """Extra keyword arguments of the model's constructor."""

    dataset_path: str | tuple[str | Mapping[str, Any], ...] = field(
        default="", converter=_as_data, validator=_data
    )
    """Data to train on: a file, a folder or a glob, or several; empty trains on the dummy dataset.
    In TOML one of several may be a table of `path`, `name` (its reader) and options of its own."""
    batch_size: int = field(default=32, validator=_integer(1))
    """Samples that one step sees on one rank [samples]."""
    num_workers: int = field(default=4, validator=_integer(0, 1024))
    """DataLoader worker processes; data that lives in memory is gathered without them."""

    lr: float = field(default=1e-4, validator=_real("above 0", lambda v: v > 0))
    """Peak learning rate."""
    weight_decay: float = field(default=1e-5, validator=_real("of at least 0", lambda v: v >= 0))
    """Weight decay."""
    warmup_steps: int = field(default=500, validator=_integer(0))
    """Length of the linear warm-up [steps]."""
    max_steps: int = field(default=100_000, validator=_integer(1))
    """Length of the run [steps]."""
    grad_clip: float = field(default=1.0, validator=_real("of at least 0", lambda v: v >= 0))
    """Largest total gradient norm; 0 does not clip."""

    use_amp: bool = field(default=True, validator=_SWITCH)
    """Mixed precision where the device gains from it (CUDA, MPS)."""
    amp_dtype: str = field(default="bfloat16", validator=_choice("bfloat16", "float16"))
    """Number format of mixed precision."""

    distributed: bool = field(default=False, validator=_SWITCH)
    """Train on several ranks; switches itself on under torchrun."""
    backend: str = field(default="nccl", validator=_choice("nccl", "gloo"))
    """Process group backend: nccl for CUDA, gloo for CPU."""

    checkpoint_dir: str = field(default="checkpoints", converter=str, validator=_path())
    """Directory of checkpoints and of metrics.jsonl."""
    save_every: int = field(default=5000, validator=_integer(0))
    """Checkpoint interval [steps]; 0 saves only at the end."""
    resume_from: str | None = field(default=None, validator=_path(None))
    """Checkpoint to continue from; `auto` takes the newest whole one of `checkpoint_dir`."""
    log_every: int = field(default=100, validator=_integer(1))
    """Logging interval [steps]."""
    eval_every: int = field(default=1000, validator=_integer(0))
    """Evaluation interval [steps]; 0 evaluates only at the end."""
    use_wandb: bool = field(default=False, validator=_SWITCH)
    """Log to Weights & Biases; the same as adding `wandb` to `loggers`."""
    wandb_project: str = field(default="simscaleai", validator=_text())
    """Weights & Biases project."""
    wandb_run_name: str | None = field(default=None, validator=_text(optional=True))
    """Weights & Biases run name; generated if not given."""

    device: str = field(default="auto", validator=_choice("auto", "cuda", "mps", "cpu"))
    """Where to compute; `auto` takes CUDA, then MPS, then CPU."""
    threads: int | None = field(default=None, validator=optional(_integer(1, 1024)))
    """Threads of each rank that compute on the CPU; torch's choice if not given."""

    seed: int = field(default=0, validator=_integer(0, 2**64 - 1))
    """Root seed of every random stream of the run."""
    init_from: str | None = field(default=None, validator=_path(None))
    """Checkpoint to take weights from; the run itself starts at step 0."""
    init_statistics: str = field(default="keep", validator=_choice("keep", "data"))
    """Normalisation statistics with `init_from`: the checkpoint's, or those of the new data."""
    init_partial: bool = field(default=False, validator=_SWITCH)
    """Take what fits by name and shape of `init_from`, and leave the rest as it was built."""
    max_skipped: int = field(default=100, validator=_integer(1))
    """Skipped updates in a row after which the run ends with an error [steps]."""
    optimizer: str = field(default="adamw", validator=_text())
    """Optimiser component."""
    schedule: str = field(default="cosine", validator=_text())
    """Learning-rate schedule component."""
    train_step: str = field(default="supervised", validator=_text())
    """Train step component: what happens between a batch and the updated parameters."""
    sampler: str | None = field(default=None, validator=_text(optional=True))
    """Sampler component: the order of the samples; the loader's own if not given."""
    transforms: tuple[str, ...] = field(default=(), converter=_as_tuple, validator=_NAMES)
    """Transform components, applied in order to each sample by the loader's workers."""
    adapters: tuple[str, ...] = field(default=(), converter=_as_tuple, validator=_NAMES)
    """Adapter components, applied in order to the policy."""
    accumulate: int = field(default=1, validator=_integer(1))
    """Micro-batches that one step's batch is split into, to save memory."""
    dataset_name: str | None = field(default=None, validator=_text(optional=True))
    """Dataset component; the one that reads the content of `dataset_path` if not given."""
    dataset_kwargs: Mapping[str, Any] = field(factory=dict, validator=_TABLE)
    """Extra keyword arguments of the dataset, such as `seq_len`."""
    weights: tuple[float, ...] = field(default=(), converter=_as_tuple, validator=_WEIGHTS)
    """Share of each of several datasets in a batch; as many samples as each has if not given."""
    eval_fraction: float = field(default=0.1, validator=_real("in [0, 1)", lambda v: 0 <= v < 1))
    """Fraction of episodes held out for eval/loss when the run loads its own data; 0 is none."""
    env: str | None = field(default=None, validator=_text(optional=True))
    """Environment for closed-loop evaluation; adds the eval function `closed_loop`."""
    eval_fns: tuple[str, ...] = field(default=(), converter=_as_tuple, validator=_NAMES)
    """Eval function components to run beside the held-out loss."""
    loggers: tuple[str, ...] = field(
        default=("console", "jsonl"), converter=_as_tuple, validator=_NAMES
    )
    """Logger components."""
    extensions: tuple[str, ...] = field(default=(), converter=_as_tuple, validator=_NAMES)
    """Extension components: run-scoped event listeners."""
    precision: str | None = field(default=None, validator=_text(optional=True))
    """Precision component; chosen from `use_amp` and the device if not given."""
    strategy: str | None = field(default=None, validator=_text(optional=True))
    """Strategy component; chosen from `distributed` if not given."""
    checkpoint_backend: str = field(default="pt", validator=_text())
    """Checkpoint backend component."""
    keep_last: int = field(default=3, validator=_integer(1))
    """Step checkpoints to keep; best and final are kept besides."""
    allow_drift: bool = field(default=False, validator=_SWITCH)
    """Resume although the schedule, batch, seed or data differ from the checkpoint's."""
    plugins: tuple[str, ...] = field(default=(), converter=_as_tuple, validator=_NAMES)
    """Plugins that the run requires; what they select is used where nothing else is named."""
    options: Mapping[str, Any] = field(factory=dict, validator=_TABLE)
    """Options of components: one table per component name."""
