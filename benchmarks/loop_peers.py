"""The training loops that one would write or install instead, each doing the same work."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
import workload
from rounds import Cost
from torch import Tensor
from workload import GRAD_CLIP, LOG_EVERY, MLP, WARMUP_STEPS, Work

Loop = Callable[[Work], Cost]


def textbook(work: Work, **optimizer_options: Any) -> Cost:
    """Train as the PyTorch tutorials do."""
    model, batches = work.start()
    optimizer = workload.build_optimizer(model, **optimizer_options)
    schedule = workload.build_schedule(optimizer, len(batches))
    for step, batch in enumerate(batches, start=1):
        optimizer.zero_grad()
        loss = model(batch)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), GRAD_CLIP)
        optimizer.step()
        schedule.step()
        if step % LOG_EVERY == 0:
            loss.item()
    return batches.cost


def textbook_fused(work: Work) -> Cost:
    """Train as the tutorials do, but with the fused optimiser, which one has to ask for."""
    return textbook(work, fused=True)


def fabric(work: Work) -> Cost:
    """Train with Lightning Fabric."""
    from lightning import Fabric

    made = Fabric(accelerator="cpu", devices=1)
    bare, batches = work.start()
    model, optimizer = made.setup(bare, workload.build_optimizer(bare))
    schedule = workload.build_schedule(optimizer, len(batches))
    for step, batch in enumerate(batches, start=1):
        optimizer.zero_grad()
        loss = model(batch)["loss"]
        made.backward(loss)
        made.clip_gradients(model, optimizer, max_norm=GRAD_CLIP)
        optimizer.step()
        schedule.step()
        if step % LOG_EVERY == 0:
            loss.item()
    return batches.cost


def accelerate(work: Work) -> Cost:
    """Train with Accelerate."""
    from accelerate import Accelerator

    made = Accelerator(cpu=True)
    bare, batches = work.start()
    bare_optimizer = workload.build_optimizer(bare)
    model, optimizer, schedule = made.prepare(
        bare, bare_optimizer, workload.build_schedule(bare_optimizer, len(batches))
    )
    for step, batch in enumerate(batches, start=1):
        optimizer.zero_grad()
        loss = model(batch)["loss"]
        made.backward(loss)
        made.clip_grad_norm_(model.parameters(), GRAD_CLIP)
        optimizer.step()
        schedule.step()
        if step % LOG_EVERY == 0:
            loss.item()
    return batches.cost


def lightning(work: Work, *, logs_each_step: bool = False) -> Cost:
    """Train with Lightning's Trainer, without logger, checkpoints and progress bar."""
    import lightning as L

    model, batches = work.start()

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss: Tensor = self.model(batch)["loss"]
            if logs_each_step:
                self.log("loss", loss)
            elif (batch_idx + 1) % LOG_EVERY == 0:
                loss.item()
            return loss

        def configure_optimizers(self) -> Any:
            optimizer = workload.build_optimizer(self)
            schedule = workload.build_schedule(optimizer, len(batches))
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=len(batches),
        gradient_clip_val=GRAD_CLIP,
        log_every_n_steps=LOG_EVERY,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Module(), batches)
    return batches.cost


def lightning_logging(work: Work) -> Cost:
    """Train with Lightning's Trainer and ``self.log`` in each step, as its tutorials do."""
    return lightning(work, logs_each_step=True)


def hugging_face(work: Work) -> Cost:
    """Train with the Trainer of Hugging Face's transformers and its default optimiser."""
    import transformers

    transformers.logging.set_verbosity_error()
    bare, batches = work.start()

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mlp: MLP = bare

        def forward(self, observations: Any, actions: Tensor) -> dict[str, Tensor]:
            return self.mlp.loss(observations, actions)

    class Trainer(transformers.Trainer):
        def get_train_dataloader(self) -> Any:
            return batches  # without a DataLoader around them, as for everybody else

    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            use_cpu=True,
            max_steps=len(batches),
            learning_rate=workload.LR,
            weight_decay=workload.WEIGHT_DECAY,
            max_grad_norm=GRAD_CLIP,
            lr_scheduler_type="cosine",
            warmup_steps=WARMUP_STEPS,
            logging_steps=LOG_EVERY,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = Trainer(model=Model(), args=arguments)
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    return batches.cost


def find_peers() -> tuple[dict[str, Loop], list[str]]:
    """Return the installed peers, by the name of their row, and what is not installed."""
    wanted: list[tuple[str, str, Loop]] = [
        ("Lightning Fabric", "lightning", fabric),
        ("Accelerate", "accelerate", accelerate),
        ("Lightning Trainer", "lightning", lightning),
        ("Lightning Trainer + self.log", "lightning", lightning_logging),
        ("HF Trainer", "transformers", hugging_face),
    ]
    found = {name: loop for name, module, loop in wanted if find_spec(module)}
    return found, sorted({module for _, module, _ in wanted if not find_spec(module)})
