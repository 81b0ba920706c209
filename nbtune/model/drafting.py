"""Reads an expected reply in one pass instead of token by token, and keeps the part of it that the model would have generated.

This is speculative decoding (Leviathan et al. 2023) with the answer of a fact as the draft: the tokens kept are those that greedy
generation gives. Without a draft, it returns the first token of a later turn before transformers' ``generate`` would have finished
its preparations.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from nbtune.model.arguments import forward_arguments
from nbtune.model.prompt_cache import can_be_cut

__all__ = ["read_draft"]


def read_draft(
    net: PreTrainedModel, prompt: list[int], draft: list[int], known: DynamicCache | None
) -> tuple[list[int], DynamicCache | None]:
    """Read a prompt and a draft of the reply in one pass.

    Parameters
    ----------
    net
        The model, with or without an adapter.
    prompt
        All tokens of the prompt, including those that `known` covers.
    draft
        Tokens that may follow the prompt; empty if only the next token is wanted.
    known
        Keys and values of the first tokens of the prompt, or None.

    Returns
    -------
    tokens : list of int
        The first tokens of the greedy reply: the part of the draft that agrees with it, and one more token. Empty if the model has
        no keys and values.
    cache : DynamicCache or None
        Keys and values of the prompt and of these tokens except the last. None if they can't be cut back, so that everything has
        to be read again.
    """
    takes = forward_arguments(net)
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
            cache.crop(right - len(draft))  # a negative length: the number of tokens to remove
        else:
            cache = None
    return likeliest[: right + 1], cache
