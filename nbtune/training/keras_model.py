"""The fit loop: torchkeras' `KerasModel` for adapters, with the defects of its `fit` fixed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader

from nbtune.errors import NbtuneError
from nbtune.training._torchkeras import TorchkerasModel
from nbtune.training.accelerating import EachEpoch, accelerator_for, restored_state, send_each
from nbtune.training.attention import sound_attention
from nbtune.training.logs import copied, means_of
from nbtune.training.step_runner import StepRunner, check_finite

__all__ = ["KerasModel"]


class KerasModel(TorchkerasModel):
    """Fits the trainable parameters of a network, for example those of an adapter.

    Constructor, `fit` arguments, callback hooks (``on_fit_start``, ``on_train_epoch_end``,
    ``on_validation_epoch_end``, ``on_fit_end``, each called with the model) and the history
    DataFrame are torchkeras'. The differences are:

    - `fit` can be called again, without validation data, and with another precision;
    - a callback ends the fit after the current epoch by setting ``model.stop_training = True``;
    - checkpoints hold only the trainable parameters, as safetensors;
    - ``accelerator`` is for use during `fit` and `evaluate` only, because Accelerate's shared state is restored afterwards;
    - the network stays on its device and is in eval mode afterwards, also after Ctrl-C or an error;
    - a loss that is not finite raises an error before the weights are saved to a checkpoint.

    Parameters
    ----------
    net
        The network; its parameters that require gradients are trained.
    loss_fn
        ``loss_fn(logits, batch)``. Default: `nbtune.training.step_runner.target_loss`.
    metrics_dict
        Modules ``metric(logits, batch)`` by name. The value of an epoch is ``metric.compute()``, followed by
        ``metric.reset()``, if the module has that method, else the mean over the steps.
    optimizer
        Default: AdamW with learning rate 3e-4.
    lr_scheduler
        Stepped after every optimizer step.
    **kwargs
        Passed to the StepRunner, as in torchkeras; nbtune's takes ``after_step``, ``penalty`` and ``dropout``.

    Raises
    ------
    NbtuneError
        If no parameter of the network requires gradients.
    """

    StepRunner = StepRunner
    net: Any
    optimizer: Any
    lr_scheduler: Any

    def __init__(
        self,
        net: torch.nn.Module,
        loss_fn: Callable[..., torch.Tensor] | None = None,
        metrics_dict: dict[str, torch.nn.Module] | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        lr_scheduler: Any = None,
        **kwargs: Any,
    ) -> None:
        trainable = [p for p in net.parameters() if p.requires_grad]
        if not trainable:
            raise NbtuneError("Nothing to train: no parameter of the network requires gradients.")
        super().__init__(net, loss_fn, metrics_dict, optimizer or torch.optim.AdamW(trainable, lr=3e-4), lr_scheduler, **kwargs)
        self.stop_training = False
        self.steps = 0
        self._precision, self._fitting = "no", False

    @restored_state()
    def fit(
        self,
        train_data: Iterable[Any],
        val_data: Iterable[Any] | None = None,
        epochs: int = 10,
        ckpt_path: str | Path | None = None,
        patience: int | None = 5,
        monitor: str = "val_loss",
        mode: str = "min",
        callbacks: list[Any] | None = None,
        plot: bool = False,
        wandb: bool | str = False,
        mixed_precision: str = "no",
        cpu: bool = False,
        gradient_accumulation_steps: int = 1,
    ) -> pd.DataFrame:
        """Train, and return the history.

        Parameters
        ----------
        train_data, val_data
            DataLoader, or any iterable of batches; each epoch is one pass over it.
        epochs
            Maximum number of epochs.
        ckpt_path
            File of the best checkpoint by `monitor`, which is loaded at the end. Default: no checkpoint is
            written, and the last weights stay.
        patience
            Epochs without improvement before stopping; None never stops for that reason.
        monitor, mode
            Name of the metric that decides, and whether ``"min"`` or ``"max"`` is better. Without
            validation data ``val_loss`` means ``train_loss``.
        callbacks
            Objects with any of the callback hooks.
        plot
            Whether to draw torchkeras' progress and curves.
        wandb
            Whether to log to Weights & Biases; a string names the project.
        mixed_precision, cpu, gradient_accumulation_steps
            As Accelerate takes them.

        Returns
        -------
        pandas.DataFrame
            One row per epoch: epoch, losses, metrics, learning rate.

        Raises
        ------
        NbtuneError
            If `epochs` is less than 1, the data is empty, the monitored metric does not exist, or the loss is not finite.
        """
        if epochs < 1:
            raise NbtuneError(f"epochs is {epochs}: expected 1 or more.")
        monitor = "train_loss" if val_data is None and monitor == "val_loss" else monitor
        if cpu:
            self.net.to("cpu")
        self._precision = mixed_precision
        self.accelerator = accelerator_for(self._device().type, mixed_precision, gradient_accumulation_steps)
        held = self.net, self.optimizer, self.lr_scheduler
        self.history: dict[str, list[float]] = {}
        self.stop_training, self.epochs = False, epochs
        # Read by torchkeras' own callbacks.
        self.monitor, self.mode, self.patience, self.ckpt_path = monitor, mode, patience, ckpt_path
        self.callbacks = [*self._torchkeras_callbacks(plot, wandb), *(callbacks or [])]
        self._fitting = True
        try:
            self.net, self.optimizer = self.accelerator.prepare(self.net, self.optimizer)
            if self.lr_scheduler is not None:
                self.lr_scheduler = self.accelerator.prepare(self.lr_scheduler)
            self._call("on_fit_start")
            with sound_attention():
                self._epochs(self._prepared(train_data), self._prepared(val_data), epochs, ckpt_path, patience, monitor, mode)
            self._call("on_fit_end")
        finally:
            self._fitting = False
            # Mixed precision has wrapped the network's forward.
            self.accelerator.unwrap_model(self.net, keep_fp32_wrapper=False)
            self.net, self.optimizer, self.lr_scheduler = held
            self.optimizer.zero_grad()  # drops the gradients of an interrupted step
            self.net.eval()
        if ckpt_path is not None and Path(ckpt_path).exists():
            self.load_ckpt(ckpt_path)
        return pd.DataFrame(self.history)

    @restored_state()
    def evaluate(self, val_data: Iterable[Any], quiet: bool = True) -> dict[str, float]:
        """Return the losses and metrics on `val_data`, with names ``val_...``; nothing is trained.

        Parameters
        ----------
        val_data
            DataLoader, or any iterable of batches.
        quiet
            Kept for torchkeras' signature; nothing is printed in any case.

        Raises
        ------
        NbtuneError
            If the data is empty, or the loss is not finite.
        """
        if not self._fitting:  # a callback may call it during a fit
            self.accelerator = accelerator_for(self._device().type, self._precision, 1)
        return self._epoch(self._prepared(val_data), "val")

    def save_ckpt(self, ckpt_path: str | Path | None = None, accelerator: Accelerator | None = None) -> None:
        """Write only the trainable parameters, as safetensors.

        Parameters
        ----------
        ckpt_path
            The file.
        accelerator
            Kept for torchkeras' signature.
        """
        net = (accelerator or self.accelerator).unwrap_model(self.net)
        state = {name: p.detach().cpu().contiguous() for name, p in net.named_parameters() if p.requires_grad}
        save_file(state, str(ckpt_path))

    def load_ckpt(self, ckpt_path: str | Path | None = None) -> None:
        """Load into the network a checkpoint written by `save_ckpt`.

        Parameters
        ----------
        ckpt_path
            The file.

        Raises
        ------
        NbtuneError
            If the file holds parameters that the network does not have.
        """
        _, unexpected = self.net.load_state_dict(load_file(str(ckpt_path)), strict=False)
        if unexpected:
            raise NbtuneError(f"{ckpt_path} holds parameters that this network does not have, such as {unexpected[0]}.")

    def _epochs(
        self,
        train: Iterable[Any],
        val: Iterable[Any] | None,
        epochs: int,
        ckpt_path: str | Path | None,
        patience: int | None,
        monitor: str,
        mode: str,
    ) -> None:
        best_epoch, best = 0, 0.0
        for epoch in range(1, epochs + 1):
            self._record({"epoch": epoch, **self._epoch(train, "train")})
            self._call("on_train_epoch_end")
            if val is not None:
                self._record(self._epoch(val, "val"))
            self._call("on_validation_epoch_end")
            if monitor not in self.history:
                raise NbtuneError(f"monitor {monitor!r} is not measured: choose one of {', '.join(self.history)}.")
            value = self.history[monitor][-1]
            if best_epoch == 0 or (math.isnan(best) and not math.isnan(value)) or (value > best if mode == "max" else value < best):
                best_epoch, best = epoch, value
                if ckpt_path is not None and self.accelerator.is_local_main_process:
                    self.save_ckpt(ckpt_path)
            if self.stop_training or (patience is not None and epoch - best_epoch >= patience):
                break

    def _epoch(self, batches: Iterable[Any], stage: str) -> dict[str, float]:
        """Run one epoch and return its losses and metrics, averaged over the steps."""
        training = stage == "train"
        runner = self.StepRunner(
            net=self.net,
            loss_fn=self.loss_fn,
            accelerator=self.accelerator,
            stage=stage,
            metrics_dict=self.metrics_dict,
            optimizer=self.optimizer if training else None,
            lr_scheduler=self.lr_scheduler if training else None,
            **self.kwargs,
        )
        losses: list[dict[str, Any]] = []
        metrics: list[dict[str, Any]] = []
        with torch.set_grad_enabled(training):
            for batch in send_each(batches, self._device()):
                with self.accelerator.accumulate(self.net):
                    of_losses, of_metrics = runner(batch)
                losses.append(copied(of_losses))
                metrics.append(copied(of_metrics))
                if training:
                    self.steps += self.accelerator.sync_gradients
        if not losses:
            raise NbtuneError(f"The {stage} data has no batches.")
        means = means_of(losses)
        check_finite(means)
        means |= means_of(metrics)
        for name, metric in self.metrics_dict.items():
            if hasattr(metric, "compute"):
                means[f"{stage}_{name}"] = float(metric.compute())
                metric.reset()
        return means

    def _prepared(self, data: Iterable[Any] | None) -> Any:
        """Wrap the data so that Accelerate sees its end and makes the last accumulated step."""
        if data is None:
            return None
        if not isinstance(data, DataLoader):
            data = DataLoader(EachEpoch(data), batch_size=None)
        return self.accelerator.prepare(data)

    def _device(self) -> torch.device:
        device: torch.device = next(self.net.parameters()).device
        return device

    @staticmethod
    def _torchkeras_callbacks(plot: bool, wandb: bool | str) -> list[Any]:
        chosen: list[Any] = []
        if plot:
            from torchkeras.kerascallbacks import VisMetric, VisProgress

            chosen += [VisMetric(), VisProgress()]
        if wandb:
            from torchkeras.kerascallbacks import WandbCallback

            chosen.append(WandbCallback(project=wandb if isinstance(wandb, str) else "nbtune"))
        return chosen

    def _record(self, log: dict[str, float]) -> None:
        for name, value in log.items():
            self.history.setdefault(name, []).append(value)

    def _call(self, hook: str) -> None:
        if self.accelerator.is_local_main_process:
            for callback in self.callbacks:
                if hasattr(callback, hook):
                    getattr(callback, hook)(self)
