"""One training or evaluation step over labelled tokens, called by `KerasModel` for each batch."""

from __future__ import annotations

import math
from typing import Any

import torch

from nbtune.data.encoding import IGNORED
from nbtune.errors import NbtuneError
from nbtune.model.arguments import forward_arguments, has_encoder
from nbtune.training._torchkeras import TorchkerasStepRunner

__all__ = ["LossNotFinite", "StepRunner", "check_finite", "target_loss", "trained_logits"]


class LossNotFinite(NbtuneError):
    """Raised when the loss or its gradient becomes NaN or infinite; the fit stops."""


def check_finite(losses: dict[str, float]) -> None:
    """Check that losses are finite.

    Parameters
    ----------
    losses
        Losses by name.

    Raises
    ------
    LossNotFinite
        If one is not; the message names it.
    """
    for name, value in losses.items():
        if not math.isfinite(value):
            raise LossNotFinite(f"{name} became {value}: training was stopped. Try a smaller --lr.")


def target_loss(logits: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the weighted Kullback-Leibler divergence from the targets to the predictions.

    For a target that is a single token this is the cross-entropy. For a target that is the distribution of
    the unchanged model it is the distance from that model, and zero means "as before".

    Parameters
    ----------
    logits
        Shape (trained tokens, vocabulary).
    batch
        ``target_tokens`` and ``target_probabilities`` of shape (trained tokens, k) and ``weights`` of shape
        (trained tokens,), as `nbtune.data.encoding.collate` makes them.
    """
    probabilities = batch["target_probabilities"]
    log_q: torch.Tensor = _LogProbabilities.apply(logits.float(), batch["target_tokens"])  # type: ignore[no-untyped-call]
    divergence = torch.xlogy(probabilities, probabilities) - probabilities * log_q
    return (divergence.sum(-1) * batch["weights"]).sum()


class _LogProbabilities(torch.autograd.Function):
    """Log-softmax of the logits at a few tokens of each row; supports one backward pass.

    PyTorch's own function keeps the whole log-softmax, and then a gradient of the same size that is zero except at these
    tokens. Here only the softmax is kept, and it becomes the gradient in place.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Return the log-probabilities, in the shape of `tokens`."""
        softmax = logits.softmax(-1)
        ctx.save_for_backward(softmax, tokens)
        # Relative to the likeliest token: a probability may be too small for its logarithm.
        return logits.gather(-1, tokens) - logits.amax(-1, keepdim=True) + softmax.amax(-1, keepdim=True).log()

    @staticmethod
    def backward(ctx: Any, *outputs: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Return the gradient of the logits: the gradient at the tokens minus its sum times the softmax."""
        (gradient,), (softmax, tokens) = outputs, ctx.saved_tensors
        return softmax.mul_(-gradient.sum(-1, keepdim=True)).scatter_add_(-1, tokens, gradient), None


class StepRunner(TorchkerasStepRunner):
    """Computes the loss on the trained tokens only (the answer with its end of turn), and makes the step.

    The arguments are torchkeras'. ``loss_fn(logits, batch)`` takes logits of shape (trained tokens,
    vocabulary) and the batch; the default is `target_loss`. A metric takes the same two arguments, and its
    results are averaged over the epoch. Three keyword arguments are passed on by `KerasModel`:
    ``penalty()``, added to the loss in training; ``after_step()``, called after each optimizer step while the
    gradients still exist; and ``dropout``, whether the network's own dropout is on in training
    (default: True, as in torchkeras).

    Override `__call__` for a loss of your own; see docs/training.md for an example.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.kwargs.get("dropout", True):
            self.net.eval()

    def __call__(self, batch: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Make one step.

        Parameters
        ----------
        batch
            As `nbtune.data.encoding.collate` makes it.

        Returns
        -------
        tuple of dict
            Losses and metrics of the step by name: numbers, or tensors with one element, which are read only at the end of
            the epoch so that a step need not wait for them.
        """
        with self.accelerator.autocast():
            logits = trained_logits(self.net, batch)
            loss = (self.loss_fn or target_loss)(logits, batch)
            if self.stage == "train" and "penalty" in self.kwargs:
                loss = loss + self.kwargs["penalty"]()
        if self.stage == "train" and self.optimizer is not None:
            self._update(loss)
        metrics = {f"{self.stage}_{name}": metric(logits.detach(), batch) for name, metric in self.metrics_dict.items()}
        if self.stage == "train" and self.optimizer is not None:
            metrics["lr"] = self.optimizer.param_groups[0]["lr"]
        return {f"{self.stage}_loss": loss.detach()}, metrics

    def _update(self, loss: torch.Tensor) -> None:
        self.accelerator.backward(loss)
        if self.accelerator.sync_gradients:
            # Not `net.parameters()`: it would go through all modules in each step.
            trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
            norm = self.accelerator.clip_grad_norm_(trained, 1.0)
            # The only number read from the device in a step: it decides whether the step may be made. Where gradients are
            # scaled, the scaler skips such a step itself.
            if self.accelerator.scaler is None and norm is not None and not math.isfinite(norm):
                check_finite({"train_loss": loss.item()})
                raise LossNotFinite("The gradients became infinite or NaN: training was stopped. Try a smaller --lr, or --dtype float32.")
        self.optimizer.step()
        if self.lr_scheduler is not None:
            self.lr_scheduler.step()
        if self.accelerator.sync_gradients and "after_step" in self.kwargs:
            self.kwargs["after_step"]()
        self.optimizer.zero_grad()


def trained_logits(net: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Run a model and return the logits that predict trained tokens.

    Rows are padded on the left, so the answers end together. Logits are computed only in columns where a row is trained.

    Parameters
    ----------
    net
        A language model, with or without an adapter; or, for a batch of examples with their `Below`, its
        `nbtune.training.last_layer.LastLayer`.
    batch
        As `nbtune.data.encoding.collate` makes it.

    Returns
    -------
    torch.Tensor
        Shape (trained tokens, vocabulary), in the order of the rows.
    """
    if "hidden" in batch:
        kept_below: torch.Tensor = net(batch)
        return kept_below
    if has_encoder(net):
        return _decoded_logits(net, batch)
    columns = batch["columns"]
    inputs: dict[str, Any] = {key: batch[key] for key in ("input_ids", "attention_mask", "position_ids")}
    takes = forward_arguments(net)
    if "logits_to_keep" in takes:
        inputs["logits_to_keep"] = columns - 1
    if "position_ids" not in takes:
        del inputs["position_ids"]
    logits = net(**inputs, use_cache=False).logits
    if "logits_to_keep" not in takes:
        logits = logits[:, columns - 1]
    chosen: torch.Tensor = logits.flatten(0, 1).index_select(0, batch["picked"])  # by index: a mask is slow in the backward pass
    return chosen


def _decoded_logits(net: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the logits of a model with an encoder, which reads the tokens before the trained ones of a row."""
    trained = batch["labels"] != IGNORED
    before = batch["attention_mask"].bool() & ~trained
    asked = _rows(batch["input_ids"], before, 0)
    said = _rows(batch["labels"], trained, IGNORED)
    output = net(
        input_ids=asked,
        attention_mask=_rows(batch["attention_mask"], before, 0),
        decoder_input_ids=net.prepare_decoder_input_ids_from_labels(said),
        use_cache=False,
    )
    logits: torch.Tensor = output.logits[said != IGNORED]
    return logits


def _rows(values: torch.Tensor, chosen: torch.Tensor, padding: int) -> torch.Tensor:
    """Return the chosen values of each row, padded on the right."""
    rows = [row[mask] for row, mask in zip(values, chosen, strict=True)]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding)
