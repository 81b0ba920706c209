"""A model that reads virtual tokens before everything else: what prompt learning trains."""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

__all__ = ["Prefixed", "virtual_tokens"]


class Prefixed(torch.nn.Module):
    """A base model behind the virtual tokens of a PEFT model.

    PEFT's own wrapper drops position ids, so that a row reads otherwise when it is padded. Here the virtual tokens are keys and
    values that were read before, in training as in generation: a row says the same alone and in a batch.

    Parameters
    ----------
    net
        PEFT's model, for one of its methods of prompt learning.
    """

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.peft = net

    @property
    def count(self) -> int:
        """How many virtual tokens there are."""
        return int(self.peft.active_peft_config.num_virtual_tokens)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = self.get_base_model().device
        return device

    @property
    def generation_config(self) -> Any:
        """The base model's."""
        return self.get_base_model().generation_config

    def get_base_model(self) -> PreTrainedModel:
        """Return the model without the virtual tokens."""
        base: PreTrainedModel = self.peft.get_base_model()
        return base

    def opening(self, rows: int) -> DynamicCache:
        """Return the keys and values of the virtual tokens, so many times."""
        prompt, base = self.peft.get_prompt(rows), self.get_base_model()
        if isinstance(prompt, torch.Tensor):
            prompt = base(inputs_embeds=prompt.to(base.dtype), use_cache=True).past_key_values
        opened: DynamicCache = prompt
        return opened

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, position_ids: torch.Tensor | None = None, **others: Any
    ) -> Any:
        """Run the model on rows that are padded on the left.

        Parameters
        ----------
        input_ids, attention_mask, position_ids
            Shape (rows, longest). Default: nothing is padded; as the model itself counts.
        **others
            What else the base model's forward takes; it keeps keys and values in any case.
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
        """Generate as transformers does; the tokens it returns begin with one for each virtual token.

        Parameters
        ----------
        input_ids, attention_mask
            Shape (rows, longest).
        **options
            As transformers' ``generate`` takes them.
        """
        # The model does not read what stands in their places, but a penalty for repetition does: a token that the prompt holds.
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
    """Return how many virtual tokens a model reads before everything else."""
    return net.count if isinstance(net, Prefixed) else 0
