"""Runs a model with virtual tokens, which prompt learning trains, before its input."""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

__all__ = ["Prefixed", "virtual_tokens"]


class Prefixed(torch.nn.Module):
    """A base model that reads the virtual tokens of a PEFT model before its input.

    PEFT's own wrapper drops position ids (in recent versions, except for prefix tuning), so that padding changes the result of a
    row. Here the virtual tokens are keys and values that precede the input, in training as in generation, so that a row gives the
    same result alone and in a batch.

    Parameters
    ----------
    net
        PEFT model for one of PEFT's prompt-learning methods.
    """

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.peft = net

    @property
    def count(self) -> int:
        """Number of virtual tokens."""
        return int(self.peft.active_peft_config.num_virtual_tokens)

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        device: torch.device = self.get_base_model().device
        return device

    @property
    def generation_config(self) -> Any:
        """Generation configuration of the base model."""
        return self.get_base_model().generation_config

    def get_base_model(self) -> PreTrainedModel:
        """Return the model without the virtual tokens."""
        base: PreTrainedModel = self.peft.get_base_model()
        return base

    def opening(self, rows: int) -> DynamicCache:
        """Return the keys and values of the virtual tokens, repeated for this number of rows."""
        prompt, base = self.peft.get_prompt(rows), self.get_base_model()
        if isinstance(prompt, torch.Tensor):
            prompt = base(inputs_embeds=prompt.to(base.dtype), use_cache=True).past_key_values
        opened: DynamicCache = prompt
        return opened

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, position_ids: torch.Tensor | None = None, **others: Any
    ) -> Any:
        """Return the base model's output for rows that are padded on the left.

        Parameters
        ----------
        input_ids, attention_mask, position_ids
            Shape (rows, longest). Without an attention mask, no row is padded; without position ids, the model itself counts positions.
        **others
            Further arguments of the base model's forward; ``use_cache`` is always true.
        """
        if position_ids is not None:
            others["position_ids"] = position_ids + self.count
        return self.get_base_model()(
            input_ids=input_ids,
            attention_mask=self._widened(torch.ones_like(input_ids) if attention_mask is None else attention_mask),
            past_key_values=self.opening(len(input_ids)),
            **{**others, "use_cache": True},
        )

    def generate(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **options: Any) -> Any:
        """Generate as transformers does; the returned tokens begin with a placeholder for each virtual token.

        Parameters
        ----------
        input_ids, attention_mask
            Shape (rows, longest).
        **options
            Further arguments of transformers' ``generate``.
        """
        # The model does not read the placeholders, but a repetition penalty does: they repeat the last token of the prompt.
        places = input_ids[:, -1:].expand(-1, self.count)
        return self.get_base_model().generate(
            input_ids=torch.cat([places, input_ids], dim=1),
            attention_mask=self._widened(attention_mask),
            past_key_values=self.opening(len(input_ids)),
            **options,
        )

    def _widened(self, mask: torch.Tensor) -> torch.Tensor:
        return torch.cat([mask.new_ones(len(mask), self.count), mask], dim=1)


def virtual_tokens(net: Any) -> int:
    """Return the number of virtual tokens that a model reads before its input."""
    return net.count if isinstance(net, Prefixed) else 0
