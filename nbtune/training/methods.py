"""The table of methods, with the PEFT configuration, learning rates and training hooks of each."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from peft import AdaLoraConfig, IA3Config, LoraConfig, PeftConfig, PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig
from peft.optimizers import create_loraplus_optimizer
from peft.utils import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING
from peft.utils.constants import DUMMY_TARGET_MODULES

from nbtune.checks import check_choice, check_range
from nbtune.errors import NbtuneError
from nbtune.model.arguments import forward_arguments, has_encoder, recurrent
from nbtune.training.hooks import adalora_after_restore, adalora_hooks, pissa_hooks
from nbtune.training.targets import TargetModules, all_layers, all_modules, last_blocks

__all__ = ["METHODS", "Method", "find_method"]

_ALPHA = 64  # the same for every rank, as in the paper of LoRA (Hu et al. 2021), so that one learning rate fits all ranks


@dataclass(frozen=True)
class Method:
    """One way to adapt a model.

    Parameters
    ----------
    name
        Name of the method, for ``--method``.
    learning_rate
        Default learning rate for facts.
    examples_rate
        Default learning rate for examples, which are many and varied.
    rank
        Default rank; for virtual tokens and for blocks, their number.
    config
        ``config(rank, steps, targets)`` returns the PEFT configuration for a fit of at most `steps` steps; `targets` are the
        modules to adapt.
    hooks
        ``hooks(net)`` prepares an adapted network, and returns ``penalty`` and ``after_step`` for the StepRunner.
    after_restore
        ``after_restore(net)`` adjusts state other than weights, after the weights of an earlier epoch were restored.
    targets
        ``targets(model, rank)`` names the modules to adapt unless a narrower choice is made. Default: all linear layers.
    last_layer_overrides
        Fields that differ in the gated adapter of one fact in the last layer, unless the user gives a rank. Facts are first tried
        in the last layer alone, which trains in a fraction of the time; see `nbtune.training.last_layer`. Default: not tried there.
    families
        Model types that the method is known for. Default: all.
    virtual
        Whether it trains virtual tokens, which come before the prompt and can't be merged into weights.
    quantized
        Whether the base weights must be quantised (True), must not be (False), or may be (None, the default).
    ratio
        Learning rate of the second factor of each pair, as a multiple of the first's (LoRA+, Hayou et al. 2024).
    """

    name: str
    learning_rate: float
    examples_rate: float
    rank: int
    config: Callable[[int, int, TargetModules], PeftConfig]
    hooks: Callable[[Any], dict[str, Callable[[], Any]]] = lambda net: {}
    after_restore: Callable[[Any], None] = lambda net: None
    targets: Callable[[Any, int], TargetModules] = lambda model, rank: all_layers(model)
    last_layer_overrides: Mapping[str, Any] | None = None
    families: Collection[str] = ()
    virtual: bool = False
    quantized: bool | None = None
    ratio: float = 1.0

    def of_one_fact(self) -> Method:
        """Return the method with the changes in `last_layer_overrides`, for one fact's adapter in the last layer."""
        return replace(self, **(self.last_layer_overrides or {}))

    def room(self, context: int, rank: int | None = None) -> int:
        """Return the number of tokens that virtual tokens leave for a conversation.

        Parameters
        ----------
        context
            Tokens that the model reads.
        rank
            Default: the method's.

        Raises
        ------
        NbtuneError
            If they leave none.
        """
        rank = rank or self.rank
        room = context - (rank if self.virtual else 0)
        if room <= 0:
            raise NbtuneError(f"--rank {rank} is out of range: the model reads {context} tokens, and that many virtual ones leave none.")
        return room

    def check(self, model: Any, rank: int | None = None) -> None:
        """Check that the method can be used on a model.

        Parameters
        ----------
        model
            The base.
        rank
            Default: the method's.

        Raises
        ------
        NbtuneError
            If the rank is above the model's width or, for a method that trains whole blocks, above their number; if PEFT does not
            know the modules to adapt in this family; if the method trains virtual tokens and the model has an encoder or layers
            without keys and values; if the base weights are quantised and must not be, or the reverse; if they are quantised without
            any linear layer; or if copies of modules would be trained in float16.
        """
        if rank is not None and not self.virtual:
            most = len(last_blocks(model, sys.maxsize)) if self.targets is last_blocks else model.get_input_embeddings().weight.shape[1]
            what = "blocks" if self.targets is last_blocks else "dimensions"
            check_range("--rank", rank, rank <= most, f"at most {most}, the number of the model's {what}")
        family = model.config.model_type
        unread = has_encoder(model) or "past_key_values" not in forward_arguments(model) or recurrent(model)
        if (self.families and family not in self.families) or (self.virtual and unread):
            raise NbtuneError(f"--method {self.name} does not support {family} models: use --method lora.")
        is_quantized = getattr(model, "is_quantized", False)
        if self.quantized is True and not is_quantized:
            raise NbtuneError(
                f"--method {self.name} is for quantised weights: load with `%nbtune model NAME --quantize nf4`, or use --method lora."
            )
        if self.quantized is False and is_quantized:
            raise NbtuneError(f"--method {self.name} can't train quantised weights: use --method qlora, or load without --quantize.")
        if self.config is _module_copies and model.dtype == torch.float16:  # AdamW's smallest numbers become 0 there, and its steps NaN
            raise NbtuneError(f"--method {self.name} can't train float16 weights: load with --dtype bfloat16 or float32.")
        if is_quantized and not self.virtual and not all_layers(model):  # GPTQ, AWQ and HQQ have their own classes of layers
            raise NbtuneError(
                f"--method {self.name} finds no linear layer in these quantised weights: load the model that they were made from, "
                "with --quantize nf4 if need be."
            )

    def configure(self, model: Any, steps: int, rank: int | None = None, targets: list[str] | None = None) -> PeftConfig:
        """Return the PEFT configuration for a fit.

        Parameters
        ----------
        model
            The base.
        steps
            Maximum number of optimizer steps.
        rank
            Default: the method's.
        targets
            The modules to adapt. Default: the method's.
        """
        rank = rank or self.rank
        config = self.config(rank, steps, targets or self.targets(model, rank))
        if has_encoder(model):
            config.task_type = "SEQ_2_SEQ_LM"
        return config

    def optimizer(self, net: Any, rate: float) -> torch.optim.Optimizer:
        """Return AdamW over the trainable parameters of an adapted network.

        Parameters
        ----------
        net
            The adapted network.
        rate
            Learning rate.
        """
        if self.ratio == 1:
            return torch.optim.AdamW((p for p in net.parameters() if p.requires_grad), lr=rate, weight_decay=0.0)
        optimizer: torch.optim.Optimizer = create_loraplus_optimizer(net, torch.optim.AdamW, lr=rate, loraplus_lr_ratio=self.ratio)
        return optimizer


def _lora(rank: int, steps: int, targets: TargetModules, **variant: Any) -> PeftConfig:
    return LoraConfig(r=rank, lora_alpha=_ALPHA, lora_dropout=0.0, target_modules=targets, task_type="CAUSAL_LM", **variant)


def _dora(rank: int, steps: int, targets: TargetModules) -> PeftConfig:
    """Configure DoRA (Liu et al. 2024), which learns the norm of each weight's columns separately from their direction."""
    return _lora(rank, steps, targets, use_dora=True)


def _rslora(rank: int, steps: int, targets: TargetModules) -> PeftConfig:
    """Configure rsLoRA (Kalajdzievski 2023), which divides by the root of the rank so that a higher rank does not learn more slowly."""
    return LoraConfig(
        r=rank, lora_alpha=2 * math.sqrt(rank), lora_dropout=0.0, use_rslora=True, target_modules=targets, task_type="CAUSAL_LM"
    )


def _pissa(rank: int, steps: int, targets: TargetModules) -> PeftConfig:
    """Configure PiSSA: a LoRA of twice the rank, for two pairs of factors side by side; see `pissa_hooks`."""
    return LoraConfig(r=2 * rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=targets, task_type="CAUSAL_LM")


def _ia3(rank: int, steps: int, targets: TargetModules) -> PeftConfig:
    """Configure IA3 (Liu et al. 2022), which scales keys, values and feed-forward layers, without a rank; PEFT names them by family."""
    return IA3Config(task_type="CAUSAL_LM")


def _adalora(rank: int, steps: int, targets: TargetModules) -> PeftConfig:
    """Configure AdaLoRA (Zhang et al. 2023), which starts at 1.5 times the rank and prunes to it over the first half of the steps."""
    return AdaLoraConfig(
        init_r=rank + max(1, rank // 2),
        target_r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        tinit=min(5, steps // 10),
        # Within one or two steps PEFT would prune by values that it has not measured yet.
        tfinal=steps // 2 if steps > 2 else 0,
        deltaT=2,
        total_step=max(steps, 3),
        target_modules=targets,
        task_type="CAUSAL_LM",
    )


def _module_copies(rank: int, steps: int, targets: TargetModules) -> PeftConfig:
    """Configure training of copies of whole modules; PEFT keeps them beside the base's modules and saves them like an adapter."""
    return LoraConfig(target_modules=DUMMY_TARGET_MODULES, modules_to_save=list(targets), task_type="CAUSAL_LM")


def _prefix(rank: int, steps: int, targets: TargetModules) -> PeftConfig:
    """Configure P-Tuning v2 (Liu et al. 2022): keys and values of virtual tokens in each layer."""
    return PrefixTuningConfig(num_virtual_tokens=rank, task_type="CAUSAL_LM")


def _p_tuning(rank: int, steps: int, targets: TargetModules) -> PeftConfig:
    """Configure P-tuning (Liu et al. 2021): embeddings of virtual tokens, computed by a small network during training."""
    return PromptEncoderConfig(num_virtual_tokens=rank, task_type="CAUSAL_LM")


def _prompt(rank: int, steps: int, targets: TargetModules) -> PeftConfig:
    """Configure prompt tuning (Lester et al. 2021): embeddings of virtual tokens."""
    return PromptTuningConfig(num_virtual_tokens=rank, task_type="CAUSAL_LM")


# Rank, ratio and learning rate for facts of lora are measured: "The rank of an adapter" in docs/experiments.md.
METHODS = {
    method.name: method
    for method in (
        Method("lora", 2.5e-3, 5e-4, 32, _lora, last_layer_overrides={"rank": 8, "ratio": 8.0}, ratio=4.0),
        Method("dora", 2.5e-3, 5e-4, 32, _dora, last_layer_overrides={}, ratio=4.0),
        Method("rslora", 2.5e-3, 5e-4, 32, _rslora, last_layer_overrides={}, ratio=4.0),
        Method("pissa", 2.5e-3, 5e-4, 32, _pissa, pissa_hooks, last_layer_overrides={}, quantized=False),
        Method("qlora", 2.5e-3, 5e-4, 32, _lora, ratio=4.0, quantized=True),
        Method("ia3", 5e-2, 5e-3, 1, _ia3, families=TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING),
        Method("adalora", 8e-3, 2e-3, 16, _adalora, adalora_hooks, adalora_after_restore),
        Method("prefix", 5e-2, 1e-2, 16, _prefix, virtual=True),
        Method("p-tuning", 3e-3, 1e-3, 16, _p_tuning, virtual=True),
        Method("prompt", 1e-1, 3e-2, 16, _prompt, virtual=True),
        Method("freeze", 1e-3, 2e-4, 1, _module_copies, targets=last_blocks, quantized=False),
        Method("full", 5e-4, 1e-4, 1, _module_copies, targets=all_modules, quantized=False),
    )
}


def find_method(name: str) -> Method:
    """Return a method of the table by its name.

    Raises
    ------
    NbtuneError
        If there is no such method.
    """
    check_choice("--method", name, METHODS)
    return METHODS[name]
