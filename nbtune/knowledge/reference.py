"""Runs the reference recipe, as it was published, for comparison with the default recipe.

Source: the torchkeras tutorial that taught ChatGLM2-6B the term 梦中情炉 (AdaLoRA on query and value,
one example per batch, padded to 256 tokens, torchkeras' own ``fit``). The recipe has no retention examples
and no criterion for being done. It runs on the stock ``KerasModel.fit`` with two additions that a language
model needs: a StepRunner that passes the labels, and checkpoints that hold only the adapter.
"""

from __future__ import annotations

import contextlib
import io
import math
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from peft import AdaLoraConfig
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader

from nbtune.data.encoding import Encoded, encode
from nbtune.errors import NbtuneError
from nbtune.knowledge.facts import Fact
from nbtune.knowledge.observer import Observer, ReportEpochs
from nbtune.knowledge.settings import Settings
from nbtune.model.adapters import AdapterHost
from nbtune.model.loading import LoadedModel
from nbtune.training._torchkeras import TorchkerasModel, TorchkerasStepRunner
from nbtune.training.accelerating import restored_state
from nbtune.training.attention import sound_attention

__all__ = ["METHOD", "inject_reference"]

METHOD = "adalora"
_EPOCHS = 100
_PATIENCE = 20  # epochs without improvement
_ACCUMULATION = 16  # batches of one example per step
_LENGTH = 256  # tokens to which each example is padded
_RATE = 5e-3


class _StepRunner(TorchkerasStepRunner):
    """StepRunner of the tutorial: the model computes its own loss from the labels."""

    def __call__(self, batch: dict[str, torch.Tensor]) -> tuple[dict[str, float], dict[str, float]]:
        with self.accelerator.autocast():
            loss = self.net(**batch, use_cache=False).loss
        if self.optimizer is not None and self.stage == "train":
            self.accelerator.backward(loss)
            if self.accelerator.sync_gradients:
                self.accelerator.clip_grad_norm_(self.net.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
        return {f"{self.stage}_loss": self.accelerator.gather(loss).sum().item()}, {}


class _Model(TorchkerasModel):
    """torchkeras' model with its own fit, and with checkpoints of the trained parameters only."""

    StepRunner = _StepRunner

    def save_ckpt(self, ckpt_path: str, accelerator: Any = None) -> None:
        """Write the trained parameters."""
        state = {name: p.detach().cpu().contiguous() for name, p in self.net.named_parameters() if p.requires_grad}
        save_file(state, ckpt_path)

    def load_ckpt(self, ckpt_path: str) -> None:
        """Read the trained parameters back."""
        self.net.load_state_dict(load_file(ckpt_path), strict=False)


def inject_reference(
    host: AdapterHost,
    loaded: LoadedModel,
    facts: Sequence[Fact],
    settings: Settings,
    observer: Observer,
    retain: Sequence[str] = (),
) -> tuple[pd.DataFrame, int]:
    """Fit an adapter by the reference recipe; parameters and return value are those of `injection.inject`.

    The recipe fixes everything except the seed: it uses no other setting, and does not retain the replies to `retain`.

    Raises
    ------
    NbtuneError
        When the model has no query and value projections with known names.
    """
    examples = [encode(loaded.tokenizer, p, f.answer, context=loaded.context) for f in facts for p in f.prompts]
    # Rounded up, because Accelerate also makes a step at the end of every epoch.
    steps_per_epoch = math.ceil(len(examples) / _ACCUMULATION)
    torch.manual_seed(settings.seed)
    host.begin(_config(loaded.model, _EPOCHS * steps_per_epoch))
    batches: DataLoader[Any] = DataLoader(
        examples,  # type: ignore[arg-type]
        batch_size=1,
        shuffle=True,
        collate_fn=lambda rows: _pad(rows[0], loaded.tokenizer.pad_token_id),
    )
    observer.stage("learning by the reference recipe", _EPOCHS)
    history = _fit(host.net, batches, observer)
    return history, len(history) * steps_per_epoch


@restored_state()
def _fit(net: Any, batches: DataLoader[Any], observer: Observer) -> pd.DataFrame:
    """Run torchkeras' fit as the tutorial calls it, then put the network back on its device and in eval mode."""
    device, trainable = net.device, [p for p in net.parameters() if p.requires_grad]
    model = _Model(net, loss_fn=None, optimizer=torch.optim.AdamW(trainable, lr=_RATE))
    try:
        with sound_attention(), _checkpointing(net), tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            history: pd.DataFrame = model.fit(
                train_data=batches,
                val_data=batches,
                epochs=_EPOCHS,
                patience=_PATIENCE,
                monitor="val_loss",
                mode="min",
                ckpt_path=str(Path(folder) / "checkpoint"),
                callbacks=[ReportEpochs(observer)],
                plot=False,
                cpu=device.type == "cpu",
                gradient_accumulation_steps=_ACCUMULATION,
            )
    finally:
        net.to(device).eval()
    return history


@contextlib.contextmanager
def _checkpointing(net: Any) -> Iterator[None]:
    """Use gradient checkpointing inside the block, as the tutorial does."""
    with warnings.catch_warnings():  # older supported versions do not know the name that replaces the deprecated one
        warnings.simplefilter("ignore", FutureWarning)
        net.gradient_checkpointing_enable()
        net.enable_input_require_grads()
        try:
            yield
        finally:
            net.gradient_checkpointing_disable()
            net.disable_input_require_grads()


def _config(model: Any, steps: int) -> AdaLoraConfig:
    return AdaLoraConfig(
        task_type="CAUSAL_LM",
        target_modules=_query_value(model),
        lora_alpha=32,
        lora_dropout=0.1,
        total_step=steps,
        tinit=0,
        tfinal=0,
    )


def _query_value(model: Any) -> list[str]:
    leaves = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    for names in (["q_proj", "v_proj"], ["query_key_value"], ["c_attn"], ["query", "value"]):
        if set(names) <= leaves:
            return names
    raise NbtuneError("The reference recipe adapts query and value projections, but this model has none under a known name.")


def _pad(example: Encoded, pad: int) -> dict[str, torch.Tensor]:
    missing = _LENGTH - len(example.input_ids)
    return {
        "input_ids": torch.tensor([example.input_ids + [pad] * missing]),
        "attention_mask": torch.tensor([[1] * len(example.input_ids) + [0] * missing]),
        "labels": torch.tensor([example.labels + [-100] * missing]),
    }
