"""What each kind of component must do: data, policies, evaluations and a run's mechanisms.

A batch, as every dataset gives it and every policy takes it::

    {
        "observations": {                          one entry per observation key
            "joint_pos": float32 [B, D],           low-dimensional, in the units of the data
            "image":     float32 [B, C, H, W],     in [0, 1]
        },
        "actions":       float32 [B, A],
        "language":      list[str] of length B,    only if the dataset carries instructions
        "is_pad":        bool [B],                 only if windows may reach over an episode's end:
                                                   True where the action lies outside
        "sample_keys":   int64 [B],                only if the policy asks for them: a hash of
                                               (seed, epoch, index) to draw augmentations from
    }

With ``seq_len > 1`` every tensor has time as its second dimension: ``[B, T, ...]``; observations
have ``obs_len`` timesteps, from the window's first, and no such dimension if that is 1.
B: samples, T: timesteps of a window, D: dimensions of one key, A: dimensions of an action.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from attrs import Factory, define, field, frozen

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.optim.lr_scheduler import LRScheduler

    from simscaleai_core.config import TrainConfig
    from simscaleai_core.run.state import Run

Batch = Mapping[str, Any]
"""A batch, as the module's documentation draws it."""
StateDict = dict[str, Any]
"""State by name: tensors and plain containers."""


@frozen(kw_only=True)
class Statistics:
    """Per-dimension statistics of one key, over every timestep of the data.

    Source:
        Ours; the standard deviation is the population's (division by the count).
    """

    mean: tuple[float, ...]
    """Mean of each dimension [units of the key]."""
    std: tuple[float, ...]
    """Standard deviation of each dimension [units of the key]."""
    low: tuple[float, ...]
    """Smallest value of each dimension [units of the key]."""
    high: tuple[float, ...]
    """Largest value of each dimension [units of the key]."""
    q01: tuple[float, ...] | None = None
    """Value that 1% of each dimension's are below [units of the key], if it is known."""
    q99: tuple[float, ...] | None = None
    """Value that 99% of each dimension's are below [units of the key], if it is known."""


@frozen(kw_only=True)
class DataSpec:
    """What a dataset says of itself: enough to build a policy for it."""

    observations: Mapping[str, tuple[int, ...]]
    """Shape of one timestep of each observation key, in order; images are (C, H, W)."""
    action_dim: int
    """Dimensions of an action."""
    seq_len: int = 1
    """Timesteps per sample."""
    obs_len: int = Factory(lambda self: self.seq_len, takes_self=True)
    """Timesteps of a sample's observations, from its first."""
    pad: bool = False
    """Whether every timestep has a sample; ``is_pad`` marks what lies outside the episode."""
    statistics: Mapping[str, Statistics] = field(factory=dict)
    """Statistics of each low-dimensional observation key, and of ``"actions"``."""
    language: bool = False
    """Whether samples carry an instruction."""
    instructions: tuple[str, ...] = ()
    """The distinct instructions, sorted."""
    num_episodes: int = 0
    """Episodes in the data."""
    num_samples: int = 0
    """Samples (windows) in the data."""
    fingerprint: str = ""
    """Digest that changes when the data changes."""
    env: str | None = None
    """Id of the environment that the data was recorded in, if the data says so."""
    numbers: Callable[[], Iterator[Batch]] | None = field(default=None, eq=False, repr=False)
    """Gives all samples without images, padding included, in batches of bounded size; None if the
    data cannot, and for a mixture, whose `sources` do."""
    sources: Mapping[str, tuple[float, DataSpec]] = field(factory=dict, eq=False, repr=False)
    """Share and description of each part of a mixture, by its name in the batches' ``source``."""

    @property
    def state_keys(self) -> tuple[str, ...]:
        """The low-dimensional observation keys, in order."""
        return tuple(k for k, shape in self.observations.items() if len(shape) <= 1)

    @property
    def image_keys(self) -> tuple[str, ...]:
        """The image observation keys, in order."""
        return tuple(k for k, shape in self.observations.items() if len(shape) == 3)


@define(eq=False)
class Collated(Sequence[dict[str, Any]]):
    """Samples that were gathered as one batch.

    A dataset's ``__getitems__`` returns this: the feed takes `batch` as it is, and a plain
    ``DataLoader`` sees an ordinary sequence of samples.
    """

    batch: dict[str, Any]
    """The batch, each tensor `[B, ...]`; images may be uint8, which the loop makes float32 of."""
    size: int
    """Number of samples B."""

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.size

    def __getitem__(self, index: int) -> dict[str, Any]:  # type: ignore[override]
        """Return one sample as views into the batch, uint8 images as float32 in [0, 1].

        Slices are not offered.

        Raises:
            IndexError: If the index is outside the batch.
        """
        if not -self.size <= index < self.size:
            raise IndexError(index)
        return _row(self.batch, index)


def _row(node: Mapping[str, Any], index: int) -> dict[str, Any]:
    return {
        k: _row(v, index) if isinstance(v, Mapping) else float_image(v[index])
        for k, v in node.items()
    }


def float_image(value: Any) -> Any:
    """Return a uint8 image `[..., C, H, W]` as float32 in [0, 1], and anything else as it is."""
    is_image = str(getattr(value, "dtype", "")) == "torch.uint8" and value.ndim >= 3
    return value.float().div_(255) if is_image else value


@runtime_checkable
class DescribedDataset(Protocol):
    """A map-style dataset that describes itself.

    Optional attributes: ``in_memory`` (True if samples need no reading: the feed then gathers in
    the main process) and ``__getitems__(indices) -> Collated`` (whole batches at once).
    """

    def __len__(self) -> int:
        """Return the number of samples."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one sample."""

    def describe(self) -> DataSpec:
        """Return what the data holds."""

    def split(self, fraction: float, seed: int) -> tuple[Any, Any]:
        """Split by episode into (train, held out)."""


class Policy(Protocol):
    """An ``nn.Module`` that learns from batches and acts on observations.

    Optional members:

    - ``hparams``: keyword arguments (plain values) that build the same policy again; with them a
      checkpoint alone is enough to evaluate or deploy.
    - ``data_options(**options)``: class method, keyword arguments to open the dataset with, given
      the policy's own; the dataset takes those that it knows, and the user's come first.
    - ``from_data(data: DataSpec, **options)``: class method, builds a policy for the data.
    - ``adapt_to(data: DataSpec)``: check the data against the policy, and take the normaliser's
      statistics from it if the policy has none yet.
    - ``reset(mask=None)``: forget what was kept between calls of `predict`; `mask` is bool `[B]`,
      True where an episode begins. A policy that draws takes ``reset(mask=None, seeds=None)``, too:
      the episodes' seeds, int64 `[B]`; what it draws depends on them, but not on `B` or the order.
    - ``parameter_groups()``: parameter groups for the optimiser, as torch takes them.
    - ``block_classes``: names of the classes of its layers, with ``*`` and ``?``: what may be
      sharded or recomputed one at a time.
    - ``wants_sample_keys``: if true, training batches of a dataset with indices have
      ``sample_keys``.
    """

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``{"loss": scalar, ...}``; further scalars are logged as metrics.

        With ``"sample_loss"``, detached, the loss of each sample `[B]`, the training loss of each
        source of a mixture is logged too, as ``train/loss/NAME``.
        """

    def predict(self, obs: Any) -> Any:
        """Return actions `[A]` or `[B, A]` for one observation or a batch of them."""


@runtime_checkable
class Stateful(Protocol):
    """Something whose state belongs into a checkpoint: tensors and plain containers only."""

    def state_dict(self) -> StateDict:
        """Return the state."""

    def load_state_dict(self, state: StateDict) -> None:
        """Take the state back."""


@frozen
class Mean:
    """A mean that can be merged over batches and ranks without becoming a mean of means."""

    total: float | Fraction
    """Sum of the values; exact as a fraction, so that no sharing out can change the mean."""
    count: float
    """Number of values."""

    @property
    def value(self) -> float:
        """Return the mean; NaN if there were no values."""
        return float(self.total / self.count) if self.count else float("nan")


class EvalFunction(Protocol):
    """A measurement of a policy. Several per run.

    A target is called as ``target(config, options)``. The policy comes unwrapped, in eval mode and
    without gradients; the random state of training is not touched whatever the function draws.
    """

    def __call__(self, policy: nn.Module) -> Mapping[str, float | Mean]:
        """Return metrics by name; they are logged under ``eval/``.

        A value that is a uint8 array `[H, W, 3]` is a picture, the bytes of a GIF are a video: they
        go to the loggers that can hold them. Other values that are not numbers are left out.
        ``derived(metrics)``, if there is one, returns what follows from the metrics of all ranks.
        """


class Precision(Stateful, Protocol):
    """How numbers are kept in the forward and backward pass. One is chosen per run.

    A precision target is called as ``target(config, options)``. Its state is that of the gradient
    scaler, empty if there is none.
    """

    effective: str
    """What is really in effect, such as ``"float32"``; printed and stored."""

    def setup(self, device: torch.device) -> None:
        """Learn the device, once, before anything else is called."""

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of the forward pass; the same object each time."""

    def backward(self, loss: Tensor) -> None:
        """Run the backward pass from the loss `[]`."""

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Bring an optimiser's gradients back to their true scale.

        Called exactly once per step and optimiser, for all of them before the first is stepped.
        """

    def step(self, optimizer: torch.optim.Optimizer, norm: Tensor, veto: bool) -> bool | Tensor:
        """Update the parameters unless the gradient norm `[]` is not finite or a listener vetoed.

        Returns:
            Whether the update was applied: a bool, or a bool tensor `[]` on the device where
            reading it would stall the device.
        """


class Strategy(Protocol):
    """How the work is spread over devices and processes. One is chosen per run.

    A strategy target is called as ``target(config, options)``. Optional members:

    - ``places_policy``: true if `setup` itself brings the policy to the device, part by part.
    - ``lost_rank(error)``: the error to raise in place of one that is a consequence of another
      rank's end, or None.
    - ``training_state(policy, optimizer)``: both state dicts, with the policy's own names and in
      torch's layout. ``DTensor`` members are gathered or saved in parts, as the backend does it.
    - ``load_training_state(policy, optimizer, states)``: takes them back, the second if not None.
    - ``gathered(policy)``: a context in which each rank can call the policy by itself, to evaluate
      it; else what ``fully_shard`` has wrapped is gathered.
    """

    effective: str
    """What is really in effect, such as ``"single"``; printed and stored."""
    device: torch.device
    """Where this process computes."""
    rank: int
    """Global rank of this process; rank 0 writes."""
    world_size: int
    """Number of processes."""

    def setup(self, policy: nn.Module) -> nn.Module:
        """Wrap the policy, which is on the device, for training."""

    def sync(self, module: nn.Module, last: bool) -> AbstractContextManager[Any]:
        """Return the context around one micro-batch; gradients are shared only on the last."""

    def clip(self, parameters: Sequence[Tensor], max_norm: float | None) -> Tensor:
        """Clip the gradients in place; return their total norm `[]` before clipping."""

    def reduce(self, values: Tensor) -> Tensor:
        """Return the element-wise sum over ranks of `values` `[N]`."""

    def gather(self, value: Any) -> list[Any]:
        """Return the plain value of every rank, in the order of ranks."""

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's plain value on every rank."""

    def teardown(self, status: str) -> None:
        """Release what was taken; `status` is ``"done"``, ``"stopped"`` or ``"failed"``.

        The loop has let go of what `setup` returned.
        """


class Logger(Protocol):
    """Where metrics go. Several per run, on rank 0 only.

    A logger target is called as ``target(config, options)``. One that can hold pictures also has
    ``log_pictures(pictures, step)``: uint8 arrays `[H, W, 3]` by name. One that can hold videos has
    ``log_videos(videos, step)``: GIF files as bytes by name.
    """

    def start(self, facts: Mapping[str, Any], step: int) -> None:
        """Begin, or continue at `step`: rows after it, left by a killed run, are to be dropped.

        Args:
            facts: Effective settings of the run, plain values.
            step: Steps already completed.
        """

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record host floats for a step."""

    def close(self, status: str) -> None:
        """Flush and finish; `status` is ``"done"``, ``"stopped"`` or ``"failed"``."""


class OptimizerBuilder(Protocol):
    """Makes a run's optimiser: the function that an `OptimizerSpec` names. One per run.

    It is called again on resume, with a parameter of each shape, to try the checkpoint's state.
    """

    def __call__(
        self, parameter_groups: list[dict[str, Any]], config: TrainConfig, options: Any
    ) -> torch.optim.Optimizer:
        """Return an optimiser of all the parameters; its state dict has torch's layout.

        Several optimisers are one whose groups are theirs. A group has a list of parameters under
        ``"params"`` and what the policy's ``parameter_groups()`` says besides; rate and decay are
        `config.lr` and `config.weight_decay` where it has none. `options` is an instance of the
        options class, or None if there is none.
        """


class ScheduleBuilder(Protocol):
    """Makes a learning-rate schedule: the function that a `ScheduleSpec` names. One per run."""

    def __call__(
        self, optimizer: torch.optim.Optimizer, config: TrainConfig, options: Any
    ) -> LRScheduler:
        """Return a schedule that is stepped once for each applied update [steps]."""


@define
class StepResult:
    """What came of one step, all of it on the device."""

    metrics: dict[str, Tensor]
    """Detached scalars `[]`; logged as ``train/...``, the mean over a logging window. Or sum and
    number `[2]` of values that are some only of the samples', as ``loss/NAME``."""
    applied: bool | Tensor
    """Whether the parameters were updated: a bool, or a bool tensor `[]` on the device."""
    out: Mapping[str, Any]
    """What the policy returned for the last micro-batch."""


class TrainStep(Protocol):
    """What happens between a batch and the updated parameters. One is chosen per run.

    A target is called as ``target(config, options)``. Made of the parts in
    `simscaleai_core.run.train_step`, it works with every strategy and precision. Optional methods:
    ``setup(run)``, called once when the run's own optimiser is there and nothing is restored yet;
    ``state_dict()`` and ``load_state_dict(state)`` for what it keeps between steps, such as
    optimisers of its own.
    """

    def update(self, run: Run, batch: Batch) -> StepResult:
        """Train on a batch, which is on the host, and leave no gradient behind."""


class Sampler(Protocol):
    """The order in which samples are trained on. At most one is chosen per run.

    A target is called as ``target(config, options)``. Without one the loader's own order is kept.
    """

    def order(self, data: Any, seed: int, epoch: int) -> Sequence[int] | Tensor:
        """Return the indices of an epoch's samples, a function of the arguments alone.

        An index may come several times or never; every epoch has equally many.
        """


class Transform(Protocol):
    """A change of single samples, made by the loader's workers. Several per run, in order.

    A target is called as ``target(config, options)``; it must be possible to pickle what it
    returns. Optional: ``only_training`` (True leaves held-out samples as they are), and
    ``describe(data)``, which returns the `DataSpec` of the changed samples. A policy that acts in
    an environment sees observations and gives actions as they are there, not transformed.
    """

    def __call__(self, sample: dict[str, Any], key: int) -> dict[str, Any]:
        """Return a new sample; `key`, of seed, epoch and index, is all that chance may come from.

        Args:
            sample: One sample without the batch dimension; not to be changed in place.
            key: Integer from 0 to 2**63 - 1, another one for each transform.
        """


class Adapter(Protocol):
    """Adds to a policy, such as low-rank weights: the function that an `AdapterSpec` names.

    Checkpoints list a run's adapters with their options, and loading one applies them again before
    the weights. A run may have several.
    """

    def __call__(self, policy: nn.Module, options: Any) -> nn.Module:
        """Return the adapted policy, the same object or one with all its members.

        What is not to be trained any more does not require a gradient.
        """


class CheckpointBackend(Protocol):
    """How a checkpoint's tree becomes bytes. One is chosen per run.

    Names, atomic commit, checksums, retention and recovery are the core's; a backend only
    writes and reads one file, or one directory, that it is given. A target is called as
    ``target(config, options)``. It may have event hooks, as an extension has; a backend that only
    reads gets none.

    Optional attribute: ``is_sharded``, True if `save` is to be called on every rank with one path,
    each time in the same order, so that every rank writes its part of a directory. A tensor that is
    spread over the ranks is then a ``DTensor``, this rank's part on the CPU. Rank 0 commits after
    its own `save` returned: it must return there only when every part is written, and raise there
    if a part failed. All ranks must reach the directory under that path.
    """

    suffix: str
    """File name suffix with the dot, such as ``".pt"``."""

    def save(self, path: Path, tree: StateDict) -> None:
        """Write the tree (tensors and plain containers) to a fresh file or directory."""

    def load(self, path: Path) -> StateDict:
        """Read a tree back, tensors on the CPU, without executing anything from the file."""


def is_sharded(backend: CheckpointBackend) -> bool:
    """Return whether every rank writes a part of a backend's checkpoints."""
    return bool(getattr(backend, "is_sharded", False))
