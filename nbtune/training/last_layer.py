"""Trains only the last layer, on the output of the layers below it, which is computed once.

An adapter on the query, the output and the MLP of the last layer changes neither the layers below nor the keys and values
that the last layer attends to. So these are computed once per example, and a training step runs a single layer over the
trained tokens only.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from nbtune.data.encoding import Batch, Below, Encoded, collate, on_device
from nbtune.training.targets import all_layers

__all__ = ["LastLayer", "last_layer_of", "last_layer_targets", "read_below"]

# Projections that produce keys or values, on their own or fused with others.
_ATTENDED = re.compile(r"k_proj|v_proj|key|value|kv|qkv|c_attn|in_proj", re.IGNORECASE)
_ROWS = 16  # examples per forward pass
_EXACT = 1e-4  # largest difference of logits, relative to the largest logit, that counts as rounding
_STEPS = 2  # the same in machine epsilons, for 16 bits
_MOST_BYTES = 2**31  # most bytes of kept states; if they need more, none are kept


class LastLayer(torch.nn.Module):
    """The last layer of a causal language model with its final norm and head: the model's own modules, not copies.

    Parameters
    ----------
    model
        The model, with or without an adapter.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        whole: Any = model.get_decoder()
        self.decoder = copy.copy(whole)
        self.decoder._modules = {**whole._modules, "layers": whole.layers[-1:]}
        self.decoder.config = copy.copy(whole.config)
        self.decoder.config.num_hidden_layers = 1
        if getattr(whole.config, "layer_types", None):
            self.decoder.config.layer_types = whole.config.layer_types[-1:]
        self.head: Any = model.get_output_embeddings()

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return the logits that predict the trained tokens.

        Parameters
        ----------
        batch
            As `nbtune.data.encoding.collate` makes it from examples with their `Below`.

        Returns
        -------
        torch.Tensor
            Shape (trained tokens, vocabulary), in the order of the rows.
        """
        states = self.decoder(
            inputs_embeds=batch["hidden"],
            past_key_values=_Kept(batch["keys"], batch["values"]),
            attention_mask=batch["attention_mask"],
            position_ids=batch["position_ids"],
            use_cache=True,
        ).last_hidden_state
        # No columns are selected here: rows begin together, so each column holds a trained token.
        logits: torch.Tensor = self.head(states.flatten(0, 1).index_select(0, batch["picked"]))
        return logits


class _Kept(DynamicCache):
    """Keys and values of the earlier tokens; those of the current tokens are appended for one pass and not kept."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self._keys, self._values = keys, values

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Return all keys and values; called by transformers."""
        return torch.cat([self._keys, key_states], dim=2), torch.cat([self._values, value_states], dim=2)

    def get_seq_length(self, *_: Any, **__: Any) -> int:
        """Return the number of earlier tokens; called by transformers."""
        return self._keys.shape[2]

    def get_mask_sizes(self, query: Any, *_: Any, **__: Any) -> tuple[int, int]:
        """Return the number of keys and where they begin; called by transformers, in some versions with positions."""
        return self._keys.shape[2] + (query if isinstance(query, int) else len(query)), 0


def last_layer_targets(model: PreTrainedModel) -> list[str] | None:
    """Return the names of the projections in the last layer that can be adapted without changing keys or values.

    Parameters
    ----------
    model
        A model without an adapter.

    Returns
    -------
    list of str or None
        None if the last layer or such a projection can't be found, or there is only one layer.
    """
    layers = getattr(model.get_decoder(), "layers", None)
    if not layers or len(layers) < 2:
        return None
    inside = {id(module) for module in layers[-1].modules()}
    linear = [name for name, module in model.named_modules() if id(module) in inside and isinstance(module, torch.nn.Linear)]
    leaves = {name: name.rsplit(".", 1)[-1] for name in linear}
    adapted = all_layers(model)
    return [name for name, leaf in leaves.items() if leaf in adapted and not _ATTENDED.search(leaf)] or None


def last_layer_of(net: Any, examples: Sequence[Encoded], pad: int) -> LastLayer | None:
    """Return the last layer of an adapted model if it is all that a fit has to run.

    Parameters
    ----------
    net
        A model whose adapter is trainable.
    examples
        Some of the examples to train on.
    pad
        Padding token.

    Returns
    -------
    LastLayer or None
        None if anything else is adapted, too, or if on two of the examples the layer alone gives other logits than the
        model (because the model passes more than hidden states from layer to layer, or scales its logits).
    """
    model = net.get_base_model() if hasattr(net, "get_base_model") else net
    layers = getattr(model.get_decoder(), "layers", None)
    trained = {name: id(p) for name, p in model.named_parameters() if p.requires_grad}
    if not layers or not trained or not set(trained.values()) <= {id(p) for p in layers[-1].parameters()}:
        return None
    if any(_ATTENDED.search(part) for name in trained for part in name.split(".")):
        return None
    from nbtune.training.step_runner import trained_logits

    some = [replace(example, below=None) for example in examples[:2]]
    with torch.inference_mode():
        try:
            last = LastLayer(model)
            alone = last(on_device(collate(read_below(model, some, pad), pad), model.device))
        except torch.OutOfMemoryError:
            raise
        except (AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError):  # it needs what only the whole model passes on
            return None
        whole = trained_logits(net, on_device(collate(some, pad), model.device))
    exact = max(_EXACT, _STEPS * torch.finfo(model.dtype).eps)
    return last if bool((whole - alone).abs().max() <= exact * whole.abs().max()) else None


def read_below(model: PreTrainedModel, examples: Sequence[Encoded], pad: int) -> list[Encoded]:
    """Return the examples with what reaches the last layer, or unchanged if that would take more than 2 GiB.

    Parameters
    ----------
    model
        The model; its last layer may have an adapter.
    examples
        The examples to train on.
    pad
        Padding token.
    """
    done = list(examples)
    order = sorted(range(len(done)), key=lambda place: len(done[place].input_ids))
    size = 0
    for at in range(0, len(order), _ROWS):
        part = order[at : at + _ROWS]
        batch = on_device(collate([replace(done[place], below=None) for place in part], pad), model.device)
        hidden, keys, values = _reaching(model, batch)
        for row, place in enumerate(part):
            begin = -done[place].trained - 1
            first = int(batch["attention_mask"].shape[1] - len(done[place].input_ids))
            below = Below(hidden[row, begin:-1].clone(), keys[row, :, first:begin].clone(), values[row, :, first:begin].clone())
            done[place] = replace(done[place], below=below)
            size += sum(tensor.nbytes for tensor in (below.hidden, below.keys, below.values))
        if size * len(order) > _MOST_BYTES * (at + len(part)):
            return list(examples)
    return done


def _reaching(model: PreTrainedModel, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the last layer's input, keys and values; its output is not computed."""
    decoder: Any = model.get_decoder()
    reached: list[torch.Tensor] = []
    hook = decoder.layers[-1].register_forward_pre_hook(
        lambda _, args, named: reached.append(args[0] if args else named["hidden_states"]), with_kwargs=True
    )
    try:
        with torch.no_grad():
            inputs = {key: batch[key] for key in ("input_ids", "attention_mask", "position_ids")}
            decoder(**inputs, past_key_values=_UpTo(len(decoder.layers) - 1), use_cache=True)
    except _Reached as last:
        return reached[0], last.keys, last.values
    finally:
        hook.remove()
    raise ValueError("The last layer keeps no keys and values.")


class _Reached(Exception):
    """Raised to end a forward pass; carries the keys and values of the last layer."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.keys, self.values = keys, values


class _UpTo(DynamicCache):
    """A cache that keeps nothing, and ends the forward pass in a given layer before its attention."""

    def __init__(self, layer: int) -> None:
        super().__init__()
        self._layer = layer

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: Any, **__: Any) -> Any:
        """Return keys and values unchanged; called by transformers."""
        if layer_idx == self._layer:
            raise _Reached(key_states, value_states)
        return key_states, value_states
