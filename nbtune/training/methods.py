"""The table of methods: for each its PEFT configuration, its learning rate, what it needs while it trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from peft import AdaLoraConfig, LoraConfig, PeftConfig
from peft.optimizers import create_loraplus_optimizer

from nbtune.errors import NbtuneError, did_you_mean

__all__ = ["METHODS", "Method", "find_method"]


@dataclass(frozen=True)
class Method:
    """One way to adapt a model.

    Parameters
    ----------
    name
        What ``--method`` takes.
    learning_rate
        Default learning rate for facts.
    examples_rate
        Default learning rate for examples, which are many and different.
    rank
        Default rank.
    config
        ``config(rank, steps, targets)`` makes the PEFT configuration for a fit of at most so many steps; `targets` are the
        modules to adapt.
    hooks
        ``hooks(net)`` makes the StepRunner's ``penalty`` and ``after_step`` for an adapted network.
    narrow
        Whether it first tries the last layer alone, which is trained in a fraction of the time; see
        `nbtune.training.last_layer`.
    ratio
        How many times the learning rate the second factor of each pair gets (LoRA+, Hayou et al. 2024).
    """

    name: str
    learning_rate: float
    examples_rate: float
    rank: int
    config: Callable[[int, int, list[str] | str], PeftConfig]
    hooks: Callable[[Any], dict[str, Callable[[], Any]]]
    narrow: bool = False
    ratio: float = 1.0

    def optimizer(self, net: Any, rate: float) -> torch.optim.Optimizer:
        """Return AdamW over the trainable parameters of an adapted network."""
        optimizer: torch.optim.Optimizer = create_loraplus_optimizer(net, torch.optim.AdamW, lr=rate, loraplus_lr_ratio=self.ratio)
        return optimizer


def _lora(rank: int, steps: int, targets: list[str] | str) -> PeftConfig:
    return LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=targets, task_type="CAUSAL_LM")


def _adalora(rank: int, steps: int, targets: list[str] | str) -> PeftConfig:
    """AdaLoRA (Zhang et al. 2023) starts at 1.5 times the rank and prunes to it over the first half of the steps."""
    return AdaLoraConfig(
        init_r=rank + max(1, rank // 2),
        target_r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        tinit=min(5, steps // 10),
        tfinal=steps // 2,
        deltaT=2,
        total_step=steps,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )


def _adalora_hooks(net: Any) -> dict[str, Callable[[], Any]]:
    """AdaLoRA is a fixed-rank LoRA unless ranks are re-allocated each step and its factors are kept orthogonal."""
    config = net.peft_config[net.active_adapter]
    factors = [p for name, p in net.named_parameters() if p.requires_grad and ("lora_A" in name or "lora_B" in name)]
    identity = {size: torch.eye(size, device=net.device) for size in {min(p.shape) for p in factors}}
    taken = 0

    def penalty() -> torch.Tensor:
        """Return how far the factors are from orthogonal."""
        total = torch.zeros((), device=net.device)
        for factor in factors:
            gram = factor @ factor.T if factor.shape[0] < factor.shape[1] else factor.T @ factor
            total = total + torch.linalg.matrix_norm(gram - identity[min(factor.shape)])
        penalised: torch.Tensor = config.orth_reg_weight * total / len(factors)
        return penalised

    def after_step() -> None:
        """Let PEFT re-allocate the ranks."""
        nonlocal taken
        taken += 1
        net.base_model.update_and_allocate(taken)

    return {"penalty": penalty, "after_step": after_step}


METHODS = {
    method.name: method
    for method in (
        Method("lora", 2.5e-3, 5e-4, 32, _lora, lambda net: {}, narrow=True, ratio=4.0),
        Method("adalora", 8e-3, 2e-3, 16, _adalora, _adalora_hooks),
    )
}


def find_method(name: str) -> Method:
    """Return a method of the table.

    Raises
    ------
    NbtuneError
        When there is no such method.
    """
    if name not in METHODS:
        raise NbtuneError(f"--method {name} is unknown: use {', '.join(METHODS)}.{did_you_mean(name, METHODS)}")
    return METHODS[name]
