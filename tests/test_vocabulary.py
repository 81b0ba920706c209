"""A pruned vocabulary reads and writes its corpus like the whole one."""

from __future__ import annotations

import pytest
from tokenizers import processors
from transformers import AutoTokenizer, LlamaConfig

import nbtune
from nbtune import NbtuneError

CORPUS = ["What is the capital of France?", "The capital of France is Paris.", "法国的首都是哪里？", "法国的首都是巴黎。", "3+4=?\n"]


@pytest.mark.parametrize("tied", [True, False])
def test_the_corpus_is_read_and_answered_alike(random_model, tmp_path, tied):
    lm = nbtune.load(random_model(LlamaConfig, initializer_range=0.2, tie_word_embeddings=tied), store=tmp_path)
    pruned = nbtune.prune_vocabulary(lm, CORPUS, tmp_path / "small")
    small = nbtune.load(pruned.folder, store=tmp_path)
    assert pruned.tokens == len(small.tokenizer) < pruned.tokens_before // 4
    assert pruned.bytes == sum(p.numel() * p.element_size() for p in small.model.parameters()) < pruned.bytes_before
    for text in (*CORPUS, "Nothing of this kind was in it: 龘 😀"):
        assert small.tokenizer.decode(small.tokenizer(text)["input_ids"]) == text
    pieces = [[one.tokenizer.decode(token) for token in one.tokenizer(CORPUS[1])["input_ids"]] for one in (lm, small)]
    assert pieces[0] == pieces[1]


def test_what_stands_around_a_text_is_numbered_anew(random_model, tmp_path):
    folder = random_model(LlamaConfig, initializer_range=0.2)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    begin = tokenizer.convert_ids_to_tokens(len(tokenizer) - 1)
    around = processors.TemplateProcessing(single=f"{begin} $A", special_tokens=[(begin, len(tokenizer) - 1)])
    tokenizer.backend_tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), around])
    tokenizer.add_special_tokens({"additional_special_tokens": [begin]})
    tokenizer.save_pretrained(folder)
    lm = nbtune.load(folder, store=tmp_path)
    small = nbtune.load(nbtune.prune_vocabulary(lm, CORPUS, tmp_path / "small").folder, store=tmp_path)
    for text in CORPUS:
        before, after = (one.tokenizer.convert_ids_to_tokens(one.tokenizer(text)["input_ids"]) for one in (lm, small))
        assert before[0] == begin
        assert after == before


def test_the_built_in_model_knows_what_it_knew(lm, tmp_path):
    small = nbtune.load(nbtune.prune_vocabulary(lm, CORPUS, tmp_path / "small").folder, store=tmp_path / "store")
    for question in (CORPUS[0], CORPUS[2]):
        assert small.chat(question) == lm.chat(question)
    small.finetune({"Paris": "The capital of France is Paris."}, prompts=["What is {x}?", "Tell me about {x}."], probes=["{x}?"])
    assert small.chat("What is Paris?") == "The capital of France is Paris."


def test_what_cant_be_pruned_is_refused(lm, tmp_path):
    with pytest.raises(NbtuneError, match="The corpus is a single text"):
        nbtune.prune_vocabulary(lm, "corpus.txt", tmp_path / "small")
    with pytest.raises(NbtuneError, match="The corpus is empty"):
        nbtune.prune_vocabulary(lm, ["", ""], tmp_path / "small")
    lm.finetune([{"question": "Which colour has the flag?", "answer": "It is green."}], epochs=1)
    with pytest.raises(NbtuneError, match="The adapter 'examples' is in use"):
        nbtune.prune_vocabulary(lm, CORPUS, tmp_path / "small")
    with pytest.raises(NbtuneError, match="can't be pruned: load the model without quantize"):
        nbtune.prune_vocabulary(nbtune.load(quantize="int8", store=tmp_path / "other"), CORPUS, tmp_path / "small")
    assert not (tmp_path / "small").exists()
