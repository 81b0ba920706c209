"""Scores predictions against references, for Chinese as for English: exact match, chrF, BLEU-4, ROUGE-1, 2 and L."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from nbtune.knowledge.scoring import same

__all__ = ["METRICS", "chrf", "scores"]

_ROUGE = {"ROUGE-1": "rouge1", "ROUGE-2": "rouge2", "ROUGE-L": "rougeL"}
METRICS = ("exact match", "chrF", "BLEU-4", *_ROUGE)


class _Words:
    """Words, and single Chinese characters: sacrebleu's tokens of the kind ``zh``, as rouge-score wants to be given them."""

    def __init__(self) -> None:
        from sacrebleu.tokenizers.tokenizer_zh import TokenizerZh

        self._tokenizer = TokenizerZh()

    def tokenize(self, text: str) -> list[str]:
        """Return the tokens of a text; rouge-score's hook."""
        tokens: list[str] = self._tokenizer(text.lower()).split()
        return tokens


def scores(predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Return the scores of a corpus, each between 0 and 100.

    Parameters
    ----------
    predictions, references
        What was said, and what was wanted; one each, at least one.

    Notes
    -----
    Exact match folds white space and a closing full stop. chrF (Popović 2015) and BLEU-4 (Papineni et al. 2002) are sacrebleu's, of the
    whole corpus; BLEU counts Chinese characters one by one. ROUGE (Lin 2004) is rouge-score's F measure over the same tokens, the mean of
    the examples.
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
