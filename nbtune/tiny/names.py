"""Invents names, which the built-in model learns to copy when it says that it does not know them.

The checksum of a name decides whether it is reserved for evaluation (`reserved`), so a name that
the evaluation uses was never trained, whatever the seed.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from functools import cache

__all__ = ["NameMaker", "common_han", "rare_han", "reserved"]

# Characters that form the sentence around a name; the boundary of a name that contains them would be unclear.
_FUNCTION_HAN = frozenset("的是什么吗呢了啊吧呀这那哪谁怎啥意思个您你我他它她们请问")
_ONSETS = [*"bcdfghjklmnprstvwz", "bl", "br", "ch", "cl", "cr", "dr", "fl", "gl", "gr", "kl", "pl", "pr"]
_ONSETS += ["qu", "sh", "sk", "sl", "st", "th", "tr"]
_VOWELS = [*"aeiouaeiou", "ai", "ea", "ee", "ia", "io", "oo", "ou", "y"]
_CODAS = ["", "", "", "", "b", "ck", *"dgklmn", "ng", *"prs", "sh", *"txz"]
# Look-alikes of known names are the hardest to tell from them, so training sees more of them than evaluation does: this
# share of its names is always a look-alike.
_MORE_LOOK_ALIKES = 0.3
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def reserved(*parts: str) -> bool:
    """Return whether a name, or a combination of a name and a wording, is never trained.

    Parameters
    ----------
    *parts
        The name alone, or all parts of the combination.

    Returns
    -------
    bool
        True for one name or combination in ten, the same ones in every run.
    """
    return zlib.crc32("\x1f".join(parts).encode()) % 10 == 0


def _gb2312(rows: range) -> list[str]:
    characters = []
    for row in rows:
        for cell in range(1, 95):
            try:
                characters.append(bytes([0xA0 + row, 0xA0 + cell]).decode("gb2312"))
            except UnicodeDecodeError:
                continue
    return [c for c in characters if c not in _FUNCTION_HAN]


@cache
def common_han() -> Sequence[str]:
    """Return the 3,755 everyday characters of GB 2312 level 1, without function words."""
    return tuple(_gb2312(range(16, 56)))


@cache
def rare_han() -> Sequence[str]:
    """Return the 3,008 rarer characters of GB 2312 level 2."""
    return tuple(_gb2312(range(56, 88)))


class NameMaker:
    """Maker of invented names in Chinese, English and mixed script.

    Parameters
    ----------
    known
        Names that the model is taught; look-alikes of them are invented, but never these names themselves.
    words
        Ordinary English words, combined into names.
    pieces
        Vocabulary entries of the tokenizer, also used in names so that training copies every token at some time.
    """

    def __init__(self, known: Sequence[str], words: Sequence[str], pieces: Sequence[str] = ()) -> None:
        self._known = {name.lower() for name in known}
        self._known_han = [name for name in known if not name.isascii()]
        self._known_latin = [name for name in known if name.isascii()]
        self._words = list(words)
        self._pieces = list(pieces)

    def make(self, rng: random.Random, script: str, *, evaluation: bool = False) -> str:
        """Return one invented name.

        Parameters
        ----------
        rng
            Source of randomness.
        script
            ``"zh"``, ``"en"`` or ``"mixed"``.
        evaluation
            True for a name that training never sees, False for one that it may see.
        """
        maker = {"zh": self._han, "en": self._latin, "mixed": self._mixed}[script]
        while True:
            name = maker(rng, not evaluation and rng.random() < _MORE_LOOK_ALIKES)
            if name.lower() not in self._known and reserved(name) == evaluation:
                return name

    def _han(self, rng: random.Random, look_alike: bool) -> str:
        kind = rng.uniform(0.65 if look_alike else 0.0, 1.0)
        length = rng.choices((1, 2, 3, 4, 5, 6), (2, 25, 30, 28, 10, 5))[0]
        if kind < 0.55:
            return "".join(rng.choices(common_han(), k=length))
        if kind < 0.65:
            return "".join(rng.choices(rare_han(), k=min(length, 3)))
        known = rng.choice(self._known_han)
        if kind < 0.75:
            return known + rng.choice(common_han())
        if kind < 0.82:
            return rng.choice(common_han()) + known
        if kind < 0.90:
            cut = rng.randrange(len(known))
            return known[:cut] + rng.choice(common_han()) + known[cut + 1 :]
        return known[: rng.randint(1, len(known))] + rng.choice(self._known_han)

    def _latin(self, rng: random.Random, look_alike: bool) -> str:
        kind = rng.uniform(0.78 if look_alike else 0.0, 1.0)
        if kind < 0.36:
            count = rng.choices((1, 2, 3, 4), (55, 30, 10, 5))[0]
            return self._case(rng, " ".join(self._invented(rng) for _ in range(count)))
        if kind < 0.58:
            count = rng.choices((1, 2, 3, 4), (10, 55, 25, 10))[0]
            return self._case(rng, " ".join(rng.choices(self._words, k=count)))
        if kind < 0.68:
            return "".join(word.capitalize() for word in rng.choices(self._words, k=2))
        if kind < 0.78:
            letters = "".join(rng.choices(_LETTERS, k=rng.randint(3, 8)))
            return rng.choice((letters, letters.upper()[:4], f"{letters[:3].upper()}-{rng.randint(1, 99)}"))
        known = rng.choice(self._known_latin)
        if kind < 0.84:
            return self._case(rng, f"{rng.choice(self._words)} {known}")
        if kind < 0.90:
            return self._case(rng, f"{known} {rng.choice(self._words)}")
        cut = rng.randrange(len(known))
        return known[:cut] + rng.choice(_LETTERS) + known[cut + 1 :]

    def _mixed(self, rng: random.Random, look_alike: bool) -> str:
        han = rng.choice(self._known_han) if look_alike else "".join(rng.choices(common_han(), k=rng.randint(1, 3)))
        latin = rng.choice((self._invented(rng), rng.choice(self._words), rng.choice(_LETTERS).upper()))
        if rng.random() < 0.3:
            latin += str(rng.randint(1, 99))
        latin = self._case(rng, latin)
        return rng.choice((han + latin, latin + han, f"{latin} {han}", han + latin + rng.choice(common_han())))

    def _invented(self, rng: random.Random) -> str:
        if self._pieces and rng.random() < 0.4:
            return "".join(rng.choices(self._pieces, k=rng.randint(2, 3)))
        count = rng.choices((1, 2, 3, 4), (10, 45, 35, 10))[0]
        return "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(count))

    @staticmethod
    def _case(rng: random.Random, name: str) -> str:
        kind = rng.random()
        return name if kind < 0.6 else name.title() if kind < 0.9 else name.upper()
