"""One training or evaluation step over labelled tokens: what `KerasModel` calls for each batch."""

from __future__ import annotations

import math
from typing import Any

import torch

from nbtune.data.encoding import IGNORED
from nbtune.errors import NbtuneError
from nbtune.model.arguments import accepted, has_encoder
from nbtune.training._torchkeras import TorchkerasStepRunner

__all__ = ["LossNotFinite", "StepRunner", "check_finite", "target_loss", "trained_logits"]


class LossNotFinite(NbtuneError):
    """The loss, or its gradient, became NaN or infinite, and the fit was stopped."""


def check_finite(losses: dict[str, float]) -> None:
    """Refuse losses that are not finite.

    Raises
    ------
    LossNotFinite
        It names the loss.
    """
    for name, value in losses.items():
        if not math.isfinite(value):
            raise LossNotFinite(f"{name} became {value}: the training was stopped. Try a smaller --lr.")


def target_loss(logits: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the weighted Kullback-Leibler divergence from the targets to the predictions.

    For a target that is one token this is its cross-entropy; for the distribution of the untouched
    model it is the distance from it, so that zero means "as before".

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
    """The log-softmax of logits at a few tokens of each row; one backward pass.

    PyTorch's own holds all of the log-softmax, and then a gradient of that size that is zero but for these tokens. Here the
    softmax is held alone, and becomes the gradient.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Return a tensor of the shape of `tokens`."""
        softmax = logits.softmax(-1)
        ctx.save_for_backward(softmax, tokens)
        # From the likeliest token, for a share may be too small to have a logarithm.
        return logits.gather(-1, tokens) - logits.amax(-1, keepdim=True) + softmax.amax(-1, keepdim=True).log()

    @staticmethod
    def backward(ctx: Any, *outputs: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Return the gradient of the logits: that of the tokens, less their sum spread by the softmax."""
        (gradient,), (softmax, tokens) = outputs, ctx.saved_tensors
        return softmax.mul_(-gradient.sum(-1, keepdim=True)).scatter_add_(-1, tokens, gradient), None


class StepRunner(TorchkerasStepRunner):
    """Computes the loss on the answer's tokens alone, end of turn included, and makes the step.

    Takes torchkeras' arguments. ``loss_fn(logits, batch)`` sees logits of shape (trained tokens,
    vocabulary) and the batch; the default is `target_loss`. A metric sees the same two, and its
    result is averaged over the epoch. Three keyword arguments of the `KerasModel` come here:
    ``penalty()``, added to the loss; ``after_step()``, called after each optimizer step while the
    gradients are still there; and ``dropout``, whether the network's own dropout is on in training
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
            The step's losses and its metrics, each by name: numbers, or tensors of one, which are read when the epoch ends, so
            that a device is not waited for in each step.
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
            # Asking the net for its parameters would look through all of its modules in each step.
            trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
            norm = self.accelerator.clip_grad_norm_(trained, 1.0)
            # The one number of a step that is read: it says whether the step may be made. Where gradients are scaled, the scaler
            # leaves out such a step by itself.
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

    Rows are padded on the left, so the answers end together: no logits are computed where no row is trained.

    Parameters
    ----------
    net
        A language model, with or without an adapter; or its `nbtune.training.last_layer.LastLayer`, for a batch of what
        reaches it.
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
    takes = accepted(net)
    if "logits_to_keep" in takes:
        inputs["logits_to_keep"] = columns - 1
    if "position_ids" not in takes:
        del inputs["position_ids"]
    logits = net(**inputs, use_cache=False).logits
    if "logits_to_keep" not in takes:
        logits = logits[:, columns - 1]
    chosen: torch.Tensor = logits.flatten(0, 1).index_select(0, batch["picked"])  # by number: a mask takes its time in the backward pass
    return chosen


def _decoded_logits(net: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the same of a model with an encoder, which reads what stands before the trained tokens of a row."""
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
    """Return what is chosen of each row, padded on the right."""
    rows = [row[mask] for row, mask in zip(values, chosen, strict=True)]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding)
