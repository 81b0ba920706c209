"""Writes facts to a YAML file that a person can read, edit and diff; `nbtune.data.fact_rows` reads it back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from nbtune.errors import NbtuneError
from nbtune.knowledge.facts import Fact
from nbtune.paths import atomic_file, given_path

__all__ = ["write_facts"]

_ENDINGS = (".yaml", ".yml")


def write_facts(facts: Sequence[Fact], path: str | Path) -> Path:
    """Write the keyword, the answer and the user's own prompts and probes of each fact as YAML, and return the path.

    Scores and dates are left out: they belong to a version of the adapter, and would make every diff noisy.

    Raises
    ------
    NbtuneError
        When there is no fact, the name does not end in ``.yaml`` or ``.yml``, or the file can't be written.
    """
    if not facts:
        raise NbtuneError("There are no facts to write: teach one first, or choose an adapter with `%nbtune use NAME`.")
    target = given_path(path)
    if target.suffix.lower() not in _ENDINGS:
        raise NbtuneError(f"{target} is not a YAML file: give a name that ends in {' or '.join(_ENDINGS)}.")
    text = yaml.safe_dump([fact.to_row() for fact in facts], allow_unicode=True, sort_keys=False, width=100)
    with atomic_file(target) as file:
        file.write_text(text, encoding="utf-8")
    return target
