"""Scores predictions against references, in Chinese and English: exact match, chrF, BLEU-4, ROUGE-1, 2 and L."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from nbtune.knowledge.scoring import same

__all__ = ["METRICS", "chrf", "scores"]

_ROUGE = {"ROUGE-1": "rouge1", "ROUGE-2": "rouge2", "ROUGE-L": "rougeL"}
METRICS = ("exact match", "chrF", "BLEU-4", *_ROUGE)


class _Words:
    """sacrebleu's ``zh`` tokenizer (words and single Chinese characters) with the interface that rouge-score needs."""

    def __init__(self) -> None:
        from sacrebleu.tokenizers.tokenizer_zh import TokenizerZh

        self._tokenizer = TokenizerZh()

    def tokenize(self, text: str) -> list[str]:
        """Return the tokens of a text; called by rouge-score."""
        tokens: list[str] = self._tokenizer(text.lower()).split()
        return tokens


def scores(predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Return the scores of a corpus, each between 0 and 100.

    Parameters
    ----------
    predictions, references
        The replies, and the wanted replies in the same order; at least one.

    Raises
    ------
    NbtuneError
        When sacrebleu or rouge-score is not installed.

    Notes
    -----
    Exact match normalizes white space and ignores a final full stop. chrF (Popović 2015) and BLEU-4 (Papineni et al. 2002) are
    sacrebleu's, over the whole corpus; BLEU counts each Chinese character as a token. ROUGE (Lin 2004) is rouge-score's F measure over
    the same tokens, averaged over the examples.
    """
    import sacrebleu

    overlaps = [_rouge().score(reference, prediction) for prediction, reference in zip(predictions, references, strict=True)]
    exact = [same(prediction, reference) for prediction, reference in zip(predictions, references, strict=True)]
    return {
        "exact match": 100 * sum(exact) / len(exact),
        "chrF": sacrebleu.corpus_chrf(list(predictions), [list(references)]).score,
        "BLEU-4": sacrebleu.corpus_bleu(list(predictions), [list(references)], tokenize="zh", lowercase=True).score,
        **{name: 100 * sum(found[key].fmeasure for found in overlaps) / len(overlaps) for name, key in _ROUGE.items()},
    }


def chrf(prediction: str, reference: str) -> float:
    """Return the chrF of one prediction, between 0 and 100."""
    import sacrebleu

    score: float = sacrebleu.sentence_chrf(prediction, [reference]).score
    return score


@cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(_ROUGE.values()), tokenizer=_Words())
