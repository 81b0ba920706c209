"""Names a base model by its weights, so that an adapter is never put on another one."""

from __future__ import annotations

import hashlib

import torch
from transformers import PreTrainedModel

__all__ = ["fingerprint"]

_SAMPLES = 512  # values hashed per tensor


def fingerprint(model: PreTrainedModel) -> str:
    """Return a short hash of the parameters of a model without adapters.

    Parameters
    ----------
    model
        The base model. Every parameter counts with its name, its shape and 512 evenly spaced
        values, rounded to bfloat16, so that it is the same in float32, in bfloat16, and in what the checkpoint holds; rounded
        to float16 before, it is not.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        flat = parameter.detach().flatten()
        picked = flat[:: max(1, flat.numel() // _SAMPLES)][:_SAMPLES]
        if picked.is_floating_point():
            picked = picked.to(torch.bfloat16).view(torch.int16)
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        digest.update(picked.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
