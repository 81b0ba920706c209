"""Puts adapters on a single copy of the base weights, answers with one of them at a time, and takes them off again."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel

from nbtune.errors import NbtuneError
from nbtune.model.adapter import Adapter
from nbtune.model.merging import MergedWeights
from nbtune.model.places import AdapterPlace, kind, label, mending, strip
from nbtune.model.prefixed import Prefixed

if TYPE_CHECKING:  # PEFT takes seconds to import and is not needed before the first adapter
    from peft import PeftConfig, PeftModel

__all__ = ["AdapterHost", "Route"]

Route = Callable[[str], int | None]  # maps a question to the number of the adapter that answers it, or to None for the base


class AdapterHost:
    """A base model with any number of adapters; without an adapter the base runs unchanged, without PEFT.

    All adapters of the same configuration share one place on the model: the tensors of the adapter that answers are copied
    there. A thousand adapters therefore take no more of the model's memory, and no more time, than one.

    Parameters
    ----------
    base
        The base model; it is copied only for an export.

    Attributes
    ----------
    stamp : int
        Counter that increases whenever adapters are put on or taken off.
    bypassed : bool
        True while the base answers although adapters are on it.
    """

    def __init__(self, base: PreTrainedModel) -> None:
        self.base = base
        self.stamp = 0
        self.bypassed = False
        self._merged = MergedWeights()
        self._take_off()

    def _take_off(self) -> None:
        self._peft: PeftModel | None = None
        self._prefixed: Prefixed | None = None  # wraps the PEFT model if its adapters are virtual tokens
        self._layers: list[Any] = []  # the layers of PEFT that hold adapters
        self._places: list[AdapterPlace] = []
        self._active: AdapterPlace | None = None
        self._on: bool | None = None  # whether the layers apply the adapter; None if unknown
        self._reset()

    def _reset(self) -> None:
        self._merged.take_out()
        self._merged = MergedWeights()
        self._gate: Route | None = None
        self._adapters: tuple[Adapter, ...] = ()
        self._answering: int | None = None
        self._enabled = False

    @property
    def net(self) -> Any:
        """Model to generate with: the model with its adapters, or the base alone."""
        if self._peft is None or not self._enabled or self.bypassed:
            return self.base
        return self._prefixed or self._peft

    def begin(self, config: PeftConfig) -> None:
        """Put a new adapter on the base for training, in place of the adapters that are on it.

        Parameters
        ----------
        config
            PEFT configuration of the new adapter; it is copied.

        Raises
        ------
        NbtuneError
            When PEFT refuses because of another package, such as an old torchao.
        """
        self.clear()
        self.stamp += 1
        self._place(config, trainable=True)
        self._enabled = self._on = True

    def attach(self, adapters: Sequence[Adapter], gate: Route | None = None) -> None:
        """Put finished adapters on the base, in place of the adapters that are on it.

        Parameters
        ----------
        adapters
            The adapters, at least one.
        gate
            Chooses the adapter that answers a question, or the base. Default: the first adapter answers every question.

        Raises
        ------
        NbtuneError
            When PEFT refuses because of another package, such as an old torchao.
        """
        configs = [*(place.config for place in self._places), *(adapter.config for adapter in adapters)]
        alike = len(set(map(kind, configs))) == 1 and not any(getattr(config, "rank_pattern", None) for config in configs)
        training = self._enabled and not self._adapters
        if training or not alike:  # the places of finished adapters stay on the model for others of the same kind
            self.clear()
        self.stamp += 1
        with self._cleared_on_failure():
            self._reset()
            self._adapters, self._gate = tuple(adapters), gate
            self._activate(0)
            self._switch(on=not self.bypassed)
            self._enabled = True

    def disable(self) -> None:
        """Let the base answer.

        Finished adapters stay on the model, switched off, so that they or others can be used again at once. An adapter in
        training is taken off.
        """
        if not self._adapters:
            self.clear()
        else:
            self.stamp += 1
            with self._cleared_on_failure():
                self._switch(on=False)
                self._reset()

    @contextmanager
    def _cleared_on_failure(self) -> Iterator[None]:
        """Take all adapters off if the block fails or is interrupted: layers left switched on would answer in the base's name."""
        try:
            yield
        except BaseException:
            self.clear()
            raise

    def clear(self) -> None:
        """Take all adapters off the model, so that only the base is left."""
        try:
            if self._peft is not None:
                self.stamp += 1
                strip(self.base)
        except BaseException:  # a base with some modules still replaced would be taken for a clean one
            strip(self.base)
            raise
        finally:
            self._take_off()

    def extract(self) -> Adapter:
        """Return the adapter that was put on with `begin`, ready to be saved; `Adapter.of` says how its tensors are rounded."""
        assert self._peft is not None
        return Adapter.of(self._peft)

    def group_by_side(self, questions: Sequence[str]) -> dict[int | None, list[int]]:
        """Group questions by the side that answers them: the number of an adapter, or None for the base.

        Parameters
        ----------
        questions
            The texts that the gate reads.

        Returns
        -------
        dict
            For each side, the indices of the questions that it answers; a side without questions is left out.
        """
        sides: dict[int | None, list[int]] = {}
        for place, question in enumerate(questions):
            sides.setdefault(self._side(question), []).append(place)
        return sides

    def _side(self, question: str) -> int | None:
        if not self._enabled:
            return None
        return 0 if self._gate is None else self._gate(question)

    @contextmanager
    def answering(self, side: int | None) -> Iterator[None]:
        """Answer inside the block with one of the adapters, or with the base if `side` is None."""
        if self.bypassed or (side is not None and not self._enabled):
            yield
        elif side is not None:
            self._activate(side)
            self._switch(on=True)
            yield
        else:
            try:
                self.bypassed = True
                self._switch(on=False)
                yield
            finally:
                self.bypassed = False
                self._switch(on=self._enabled)  # the block may have put on another adapter, or taken all off

    def merged(self) -> PreTrainedModel:
        """Return the model with the adapter in use merged into its weights.

        The result is a copy, so that the base stays exact. If no adapter is in use, it is the base itself or, for quantised
        weights, a dequantised copy. Quantised weights are merged in full precision, because quantising the result would round
        away what was learned; all adapters are taken off this host for that.
        """
        adapters = self._adapters
        self._merged.take_out()
        if not self._enabled or getattr(self.base, "is_quantized", False):
            self.clear()
        if getattr(self.base, "is_quantized", False):
            whole = AdapterHost(copy.deepcopy(self.base).dequantize())
            if not adapters:
                return whole.base
            whole.attach(adapters)
            assert whole._peft is not None
            merged: PreTrainedModel = whole._peft.merge_and_unload()  # already a copy
            return merged
        return self.base if self._peft is None else copy.deepcopy(self._peft).merge_and_unload()

    @contextmanager
    def merged_weights(self) -> Iterator[None]:
        """Answer inside the block with weights into which the adapter is merged, where that saves time.

        Merging takes longer than it saves in the first reply, so it is done from the second reply on. It is not done if there is a
        gate: each fact then has an adapter of its own, and its answer is read in one pass.
        """
        alone = self._enabled and not self.bypassed and self._gate is None and bool(self._adapters)
        if not alone or self._active is None or not self._merged.prepare(self.base, self._layers, self._active.label):
            yield
            return
        sums = self._merged
        try:
            self._switch(on=False)
            sums.put_in()
            yield
        finally:
            sums.take_out()
            self._switch(on=self._enabled and not self.bypassed)

    def _switch(self, *, on: bool) -> None:
        """Switch the adapter on or off in all layers; PEFT's own method searches the whole model each time."""
        self._merged.take_out()
        if self._on is on:
            return
        self._on = None  # an interrupt may leave some layers on and others off
        for layer in self._layers:
            layer.enable_adapters(on)
            if self._adapters:  # finished adapters need no gradients
                layer.requires_grad_(False)
        self._on = on

    def _activate(self, number: int) -> None:
        """Copy the tensors of an adapter to its place on the model, so that it answers."""
        if not self._adapters or number == self._answering:
            return
        assert 0 <= number < len(self._adapters)
        adapter = self._adapters[number]
        self._answering = None
        place = self._place(adapter.config, trainable=False)
        assert self._peft is not None
        if place.holds is not adapter:
            place.holds = None
            place.fill(self._peft, adapter.weights)
            place.holds = adapter
        self._answering = number

    def _place(self, config: PeftConfig, *, trainable: bool) -> AdapterPlace:
        """Activate the place for adapters of a configuration, creating it if necessary, and return it."""
        config = copy.copy(config)
        config.inference_mode = not trainable
        place = next((place for place in self._places if place.config == config), None) or self._new_place(config)
        if place is not self._active:
            assert self._peft is not None
            self._active = None
            self._peft.set_adapter(place.label)
            if not trainable:
                self._peft.requires_grad_(False)
            self._peft.eval()
            self._active = place
        return place

    def _new_place(self, config: PeftConfig) -> AdapterPlace:
        from peft import get_peft_model
        from peft.tuners.tuners_utils import BaseTunerLayer
        from peft.utils import AuxiliaryTrainingWrapper

        place = AdapterPlace(label(len(self._places)), config)
        try:
            with warnings.catch_warnings():  # PEFT calls deprecated functions of transformers: nothing that a user can fix
                warnings.simplefilter("ignore", FutureWarning)
                warnings.filterwarnings("ignore", "The following rank_pattern keys", RuntimeWarning)
                # That the base lies in another folder than when it was taught, which its fingerprint allows; and that PEFT sets an
                # option for GPT-2's layers by itself.
                warnings.filterwarnings("ignore", "The PEFT config's `base_model_name_or_path` was renamed", UserWarning)
                warnings.filterwarnings("ignore", "fan_in_fan_out is set to", UserWarning)
                if self._peft is None:
                    self._peft = get_peft_model(self.base, copy.deepcopy(config), adapter_name=place.label)
                else:
                    self._peft.add_adapter(place.label, copy.deepcopy(config))
        except BaseException as error:
            self.clear()
            strip(self.base)
            if not isinstance(error, ImportError):
                raise
            raise NbtuneError(f"PEFT can't put an adapter on this model: {str(error).rstrip('.')}. {mending()}") from None
        self._places.append(place)
        self._on = None
        self._prefixed = Prefixed(self._peft) if config.is_prompt_learning else None
        self._layers = [module for module in self._peft.modules() if isinstance(module, (BaseTunerLayer, AuxiliaryTrainingWrapper))]
        return place
