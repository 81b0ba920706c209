"""The table of methods: for each its PEFT configuration, its learning rate, what it needs while it trains."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from peft import AdaLoraConfig, IA3Config, LoraConfig, PeftConfig
from peft.optimizers import create_loraplus_optimizer
from peft.utils import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING

from nbtune.errors import NbtuneError, did_you_mean

__all__ = ["METHODS", "Method", "all_layers", "find_method"]


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
    families
        Model types that it is known for. Default: all.
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
    families: Collection[str] = ()

    def check(self, model: Any) -> None:
        """Refuse a model that the method can't be put on.

        Raises
        ------
        NbtuneError
            When PEFT does not know where in this family.
        """
        family = model.config.model_type
        if self.families and family not in self.families:
            raise NbtuneError(f"--method {self.name} is not known for {family} models: use --method lora.")

    def optimizer(self, net: Any, rate: float) -> torch.optim.Optimizer:
        """Return AdamW over the trainable parameters of an adapted network."""
        optimizer: torch.optim.Optimizer = create_loraplus_optimizer(net, torch.optim.AdamW, lr=rate, loraplus_lr_ratio=self.ratio)
        return optimizer


def _lora(rank: int, steps: int, targets: list[str] | str, **variant: Any) -> PeftConfig:
    return LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=targets, task_type="CAUSAL_LM", **variant)


def _dora(rank: int, steps: int, targets: list[str] | str) -> PeftConfig:
    """DoRA (Liu et al. 2024) learns the length of each weight's columns apart from their direction."""
    return _lora(rank, steps, targets, use_dora=True)


def _rslora(rank: int, steps: int, targets: list[str] | str) -> PeftConfig:
    """rsLoRA (Kalajdzievski 2023) divides by the root of the rank, so that a higher rank does not learn more slowly."""
    return LoraConfig(
        r=rank, lora_alpha=2 * math.sqrt(rank), lora_dropout=0.0, use_rslora=True, target_modules=targets, task_type="CAUSAL_LM"
    )


def _ia3(rank: int, steps: int, targets: list[str] | str) -> PeftConfig:
    """IA3 (Liu et al. 2022) scales what keys, values and the feed-forward layers hand on; it has no rank. PEFT knows where, by family."""
    return IA3Config(task_type="CAUSAL_LM")


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


_MAMBA = ["in_proj", "x_proj"]

METHODS = {
    method.name: method
    for method in (
        Method("lora", 2.5e-3, 5e-4, 32, _lora, lambda net: {}, narrow=True, ratio=4.0),
        Method("dora", 2.5e-3, 5e-4, 32, _dora, lambda net: {}, narrow=True, ratio=4.0),
        Method("rslora", 2.5e-3, 5e-4, 32, _rslora, lambda net: {}, narrow=True, ratio=4.0),
        Method("ia3", 5e-2, 5e-3, 1, _ia3, lambda net: {}, families=TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING),
        Method("adalora", 8e-3, 2e-3, 16, _adalora, _adalora_hooks),
    )
}


def all_layers(model: Any) -> list[str] | str:
    """Return what to adapt where all layers are: the linear ones, but for those whose weights a family reads past PEFT."""
    return _MAMBA if "mamba" in model.config.model_type else "all-linear"


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
