"""Identifies a base model by its weights, so that an adapter is never put on another one."""

from __future__ import annotations

import hashlib

import torch
from transformers import PreTrainedModel

__all__ = ["fingerprint"]

_SAMPLES = 512  # most values hashed per tensor


def fingerprint(model: PreTrainedModel) -> str:
    """Return a short hash of the parameters of a model without adapters.

    Of each parameter, the name, the shape and up to 512 evenly spaced values are hashed. The values are rounded to bfloat16, so
    that the hash is the same for a model loaded in float32, in bfloat16 or in the checkpoint's own format. It is not the same for
    weights that were rounded to float16.

    Parameters
    ----------
    model
        The base model.

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
