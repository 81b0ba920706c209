"""Turns a user's input into a task, facts to teach or examples to train on, and refuses options that do not fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from nbtune.checks import check_choice, check_known, check_range, whole_number
from nbtune.data.detection import FACTS, kind_of
from nbtune.data.examples import read_examples
from nbtune.data.fact_rows import read_facts
from nbtune.data.reading import Reading
from nbtune.data.rows import read_rows
from nbtune.errors import NbtuneError
from nbtune.knowledge.facts import Fact
from nbtune.knowledge.settings import Settings
from nbtune.knowledge.teaching import RECIPES, REFERENCE_PROMPTS, Teaching
from nbtune.knowledge.tuning import EXAMPLE_SETTINGS, Tuning

__all__ = ["FactOptions", "facts_of", "plan"]

_READING, _SETTINGS = ({field.name for field in fields(kind)} for kind in (Reading, Settings))
_FACTS_ONLY, _FACT_SETTINGS = ("prompts", "probes", "extend", "retain", "rewordings"), ("forms_per_batch", "gated", "last_layer_first")


@dataclass(frozen=True)
class FactOptions:
    """Options that apply to facts only; see `nbtune.LanguageModel.finetune`.

    Raises
    ------
    NbtuneError
        When a value is invalid, or contradicts another.
    """

    recipe: str = "default"
    prompts: Sequence[str] | None = None
    probes: Sequence[str] | None = None
    extend: bool = False
    retain: Sequence[str] = ()
    rewordings: int = 0

    def __post_init__(self) -> None:
        for name in ("prompts", "probes", "retain"):
            given = getattr(self, name)
            if isinstance(given, Iterable) and not isinstance(given, (str, Mapping)):  # such as a Series, or an iterator to read once
                object.__setattr__(self, name, list(given))
        check_choice("--recipe", self.recipe, RECIPES)
        if not isinstance(self.retain, list) or not all(isinstance(question, str) and question.strip() for question in self.retain):
            raise NbtuneError("retain: expected a list of questions such as ['What is the capital of France?'].")
        check_range("--rewordings", self.rewordings, whole_number("--rewordings", self.rewordings) >= 0, "0 or more")
        if self.extend and not self.prompts and not self.probes:
            raise NbtuneError("extend adds the built-in phrasings to your own: give prompts or probes too.")


def plan(source: Any, wishes: FactOptions, options: Mapping[str, Any]) -> Teaching | Tuning:
    """Return the task for a source: teaching facts or training on examples.

    Parameters
    ----------
    source
        Anything that `nbtune.data.rows.read_rows` accepts; rows with ``keyword`` and ``answer``, or a mapping, are facts.
    wishes
        Options that apply to facts only.
    options
        Fields of `Settings`, and for examples of `Reading`.

    Raises
    ------
    NbtuneError
        When the source can't be read, or an option is unknown, out of range, or does not apply to this kind of source.
    """
    check_known(options, _READING | _SETTINGS)
    rows = read_rows(source)
    reading = {key: options[key] for key in _READING & options.keys()}
    settings = {key: options[key] for key in _SETTINGS & options.keys()}
    how = Reading(**reading)
    if kind_of(rows, how) != FACTS:
        unfit = [option for option in _FACTS_ONLY if getattr(wishes, option)] + (["recipe"] if wishes.recipe != "default" else [])
        unfit += [option for option in _FACT_SETTINGS if option in settings]
        if unfit:
            raise NbtuneError(f"--{unfit[0].replace('_', '-')} is for facts (rows with keyword and answer), not for examples.")
        return Tuning(read_examples(rows, how), how, Settings(**{**EXAMPLE_SETTINGS, **settings}))
    how.check_unused()
    chosen, fixed = Settings(**settings), sorted(settings.keys() - {"seed"})
    facts = facts_of(rows, wishes)
    if wishes.recipe == "reference":
        _check_reference(facts, wishes, fixed)
    return Teaching(facts, chosen, wishes.recipe, tuple(wishes.retain), wishes.rewordings)


def _check_reference(facts: Sequence[Fact], wishes: FactOptions, fixed: Sequence[str]) -> None:
    """Refuse what the reference recipe would ignore."""
    if fixed:
        raise NbtuneError(f"The reference recipe fixes {', '.join(fixed)}: only --seed can be set.")
    given = next((option for option in ("retain", "rewordings", "extend") if getattr(wishes, option)), None)
    if given:
        raise NbtuneError(f"The reference recipe stays as it was published: leave out --{given}.")
    long = next((fact for fact in facts if len(fact.own_prompts) > REFERENCE_PROMPTS), None)
    if long:
        count = len(long.own_prompts)
        raise NbtuneError(f"The reference recipe trains {REFERENCE_PROMPTS} prompts: {long.keyword!r} has {count}, give fewer.")


def facts_of(source: Any, wishes: FactOptions | None = None) -> tuple[Fact, ...]:
    """Return the facts of a source, with the user's own prompts and probes.

    Parameters
    ----------
    source
        Anything that `nbtune.data.fact_rows.read_facts` accepts.
    wishes
        Prompts and probes for all facts, in place of those in the rows. Default: none.

    Raises
    ------
    NbtuneError
        When the source can't be read, a row can't be a fact, or two keywords differ only in case or punctuation.
    """
    own = wishes or FactOptions()
    return tuple(
        Fact.new(
            row.keyword, row.answer, own.prompts or row.prompts or None, own.probes or row.probes or None, extend=own.extend or row.extend
        )
        for row in read_facts(source)
    )
