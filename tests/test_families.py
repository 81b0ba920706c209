"""Small random models of many families: each is taught one example, saved, loaded again, and undone."""

from __future__ import annotations

import pytest
import transformers

import nbtune
from tests.families import FAMILIES

ROWS = [{"question": "Which colour has the flag?", "answer": "It is green."}]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_the_family_is_taught_saved_and_undone(family, random_model, tmp_path):
    folder = random_model(getattr(transformers, family), initializer_range=0.2, **FAMILIES[family])
    lm = nbtune.load(folder, store=tmp_path)
    before = lm.chat(ROWS[0]["question"], max_new_tokens=16)
    lm.finetune(ROWS, epochs=100, learning_rate=3e-3, retained_per_batch=0)
    assert lm.chat(ROWS[0]["question"]) == ROWS[0]["answer"]
    anew = nbtune.load(folder, store=tmp_path)
    assert anew.chat(ROWS[0]["question"], max_new_tokens=16) == before
    anew.use("examples")
    assert anew.chat(ROWS[0]["question"]) == ROWS[0]["answer"]
    assert anew.undo() == 0
    assert anew.chat(ROWS[0]["question"], max_new_tokens=16) == before


@pytest.mark.parametrize("family", FAMILIES)
def test_a_later_turn_says_what_the_whole_conversation_read_again_says(family, random_model, tmp_path):
    folder = random_model(getattr(transformers, family), initializer_range=0.2, **FAMILIES[family])
    lm, anew = (nbtune.load(folder, store=tmp_path) for _ in range(2))
    question, few = ROWS[0]["question"], {"max_new_tokens": 8}
    history = [{"role": "user", "content": question}, {"role": "assistant", "content": lm.reply(question, **few).text}]
    assert lm.reply("And its border?", history=history, **few).text == anew.reply("And its border?", history=history, **few).text


def test_a_model_that_reads_all_again_from_some_length_on_still_does(random_model, tmp_path):
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 8, "long_factor": [4.0] * 8}
    longer = {"original_max_position_embeddings": 48, "max_position_embeddings": 512, "partial_rotary_factor": 1.0}
    folder = random_model(transformers.Phi3Config, initializer_range=0.2, rope_parameters=rope, **longer)
    lm, anew = (nbtune.load(folder, store=tmp_path) for _ in range(2))
    history = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": lm.chat("Hi", max_new_tokens=4)}]
    question = "And what is its border like, seen from the sea? " * 6
    assert lm.chat(question, history=history, max_new_tokens=8) == anew.chat(question, history=history, max_new_tokens=8)
