"""Reads a reply that is expected in one pass, instead of token by token, and keeps as much of it as the model would have said.

It is speculative decoding (Leviathan et al. 2023) with the answer of a fact as the draft: what is kept are the tokens that greedy
generation gives. Without a draft it gives the first token of a later turn, sooner than transformers' ``generate`` is prepared.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from nbtune.model.arguments import accepted
from nbtune.model.prompt_cache import can_be_cut

__all__ = ["read_draft"]


def read_draft(
    net: PreTrainedModel, prompt: list[int], draft: list[int], known: DynamicCache | None
) -> tuple[list[int], DynamicCache | None]:
    """Read a prompt and a draft of the reply.

    Parameters
    ----------
    net
        The model, with or without an adapter.
    prompt
        Tokens; the first ones may be known.
    draft
        Tokens that may follow; none, where only the next one is wanted.
    known
        Keys and values of the first tokens of the prompt. Default: none.

    Returns
    -------
    tuple
        The first tokens of the reply that greedy generation gives: as much of the draft as it gives, and one more. And keys and
        values of the prompt and of these but the last, None where they can't be cut, so that all has to be read again. No token
        where the model has no keys and values.
    """
    takes = accepted(net)
    if "past_key_values" not in takes:
        return [], None
    begin = known.get_seq_length() if known else 0
    inputs: dict[str, Any] = {"logits_to_keep": len(draft) + 1} if "logits_to_keep" in takes else {}
    tokens = torch.tensor([[*prompt[begin:], *draft]], device=net.device)
    with torch.inference_mode():
        output = net(input_ids=tokens, past_key_values=known, use_cache=True, **inputs)
    likeliest = output.logits[0, -len(draft) - 1 :].argmax(-1).tolist()
    right = next((at for at, (one, other) in enumerate(zip(likeliest, draft, strict=False)) if one != other), len(draft))
    cache = output.past_key_values
    if right < len(draft):
        if can_be_cut(cache):
            cache.crop(right - len(draft))  # below zero: so many fewer
        else:
            cache = None
    return likeliest[: right + 1], cache
