"""Hooks of methods during and after training: PiSSA's second pair of factors, AdaLoRA's ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from peft.utils.other import transpose

__all__ = ["adalora_after_restore", "adalora_hooks", "pissa_hooks"]


def pissa_hooks(net: Any) -> dict[str, Callable[[], Any]]:
    """Set PiSSA's factors, and return the hook that keeps the second pair fixed.

    PiSSA (Meng et al. 2024) trains the principal part of each weight, W = (W - B0 A0) + B A, from B = B0 and A = A0. Here
    the base weights do not change: the part that PEFT would subtract from them, -B0 A0, is a second pair of factors in the
    adapter, restored after each step. PEFT turns a trained PiSSA into a LoRA of twice the rank in the same way.

    Parameters
    ----------
    net
        A network with a LoRA of twice the rank on it.
    """
    label, frozen = net.active_adapter, []
    with torch.no_grad():
        for layer in (module for module in net.modules() if isinstance(module, LoraLayer)):
            down, up = layer.lora_A[label].weight, layer.lora_B[label].weight
            rank, weight = len(down) // 2, transpose(layer.get_base_layer().weight, layer.fan_in_fan_out)
            left, strengths, right = torch.linalg.svd(weight.float(), full_matrices=False)
            count = min(rank, len(strengths))
            roots = strengths[:count].sqrt()
            down.zero_()
            up.zero_()
            for half, sign in ((slice(0, count), 1), (slice(rank, rank + count), -1)):
                down[half] = roots[:, None] * right[:count]
                up[:, half] = sign * left[:, :count] * roots
            frozen += [(down[rank:], down[rank:].clone()), (up[:, rank:], up[:, rank:].clone())]

    def after_step() -> None:
        """Restore the second pair of factors."""
        with torch.no_grad():
            for now, then in frozen:
                now.copy_(then)

    return {"after_step": after_step}


def adalora_hooks(net: Any) -> dict[str, Callable[[], Any]]:
    """Return the hooks of AdaLoRA: a penalty that keeps its factors orthogonal, and a reallocation of ranks after each step.

    Without them AdaLoRA is a LoRA of fixed rank.

    Parameters
    ----------
    net
        A network with an AdaLoRA adapter on it.
    """
    config = net.peft_config[net.active_adapter]
    factors = [p for name, p in net.named_parameters() if p.requires_grad and ("lora_A" in name or "lora_B" in name)]
    identity = {size: torch.eye(size, device=net.device) for size in {min(p.shape) for p in factors}}
    taken = 0

    def penalty() -> torch.Tensor:
        """Return the mean distance of the factors from orthogonality, weighted by ``orth_reg_weight``."""
        total = torch.zeros((), device=net.device)
        for factor in factors:
            gram = factor @ factor.T if factor.shape[0] < factor.shape[1] else factor.T @ factor
            total = total + torch.linalg.matrix_norm(gram - identity[min(factor.shape)])
        penalised: torch.Tensor = config.orth_reg_weight * total / len(factors)
        return penalised

    def after_step() -> None:
        """Let PEFT reallocate the ranks."""
        nonlocal taken
        taken += 1
        net.base_model.update_and_allocate(taken)

    return {"penalty": penalty, "after_step": after_step}


def adalora_after_restore(net: Any) -> None:
    """Set the rank pattern to the ranks in use; PEFT would cut a saved adapter to those of the last step."""
    config = net.peft_config[net.active_adapter]
    if config.rank_pattern:
        config.rank_pattern = {name: (net.get_base_model().get_parameter(name) != 0).flatten().tolist() for name in config.rank_pattern}
