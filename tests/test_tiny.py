"""The built-in model: its corpus, its training, and its required abilities."""

import json
import random

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from nbtune.tiny import WEIGHTS, train
from nbtune.tiny.average import average
from nbtune.tiny.card import write_card
from nbtune.tiny.corpus import Corpus
from nbtune.tiny.evaluate import evaluate
from nbtune.tiny.names import reserved
from nbtune.tiny.text import LANGUAGES, corpus_hash, normalise, read


@pytest.mark.parametrize("language", LANGUAGES)
def test_there_is_enough_text(language):
    text = read(language)
    assert len({normalise(w) for w in text.questions.trained}) >= 1500
    assert len({normalise(w) for w in text.questions.heldout}) >= 300
    assert len(text.things) >= 300
    assert all("{x}" in wording for wording in (*text.questions.trained, *text.questions.heldout))


@pytest.mark.parametrize("language", LANGUAGES)
def test_held_out_wordings_are_never_trained(language):
    text = read(language)
    pairs = [text.questions, text.add, text.subtract, text.told_statements, text.statements]
    pairs += [relation.wordings for relation in text.relations] + [intent.wordings for intent in text.talk]
    for wordings in pairs:
        assert not {normalise(w) for w in wordings.trained} & {normalise(w) for w in wordings.heldout}


def test_names_kept_for_evaluation_are_never_drawn_for_training():
    corpus, rng = Corpus(("tor", "ch")), random.Random(0)
    for script in ("zh", "en", "mixed"):
        assert not any(reserved(corpus.names.make(rng, script)) for _ in range(500))
        assert all(reserved(corpus.names.make(rng, script, evaluation=True)) for _ in range(50))


def test_conversations_alternate_and_name_what_they_do_not_know():
    corpus, rng = Corpus(), random.Random(0)
    for _ in range(300):
        roles = [m["role"] for m in corpus.conversation(rng) if m["role"] != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
    for language in LANGUAGES:
        exchange = corpus.unknown(rng, language, script="en")
        name = exchange.reply.split("know what ")[-1].removesuffix(" is.").removeprefix("我不知道").removesuffix("是什么。")
        assert name in exchange.prompt


def test_the_tokenizer_cuts_a_name_alike_everywhere():
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)
    for name in ("torchkeras", "梦中情炉", "Vextral Nine", "GX-41炉", "龘饕"):
        alone = tokenizer(name)["input_ids"]
        for sentence in (f"what is {name}?", f"你知道{name}吗", f"“{name}”"):
            ids = tokenizer(sentence)["input_ids"]
            assert any(ids[at : at + len(alone)] == alone for at in range(len(ids)))
            assert tokenizer.decode(ids) == sentence


def test_the_card_belongs_to_this_text():
    made = json.loads((WEIGHTS / "training.json").read_text())
    assert made["corpus"] == corpus_hash()
    assert made["corpus"] in (WEIGHTS / "README.md").read_text(encoding="utf-8")
    assert (WEIGHTS / "model.safetensors").stat().st_size <= 16_000_000


def test_an_interrupted_training_goes_on_exactly(tmp_path, monkeypatch):
    recipe = train.Recipe(steps=4, batch_size=8)
    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = train.Qwen3Config
    monkeypatch.setattr(train, "Qwen3Config", lambda **kw: config(**{**kw, **small}))
    monkeypatch.setattr(train, "_CHECKPOINT_EVERY", 2)
    train.run(recipe, tmp_path / "whole", tmp_path / "a")
    step = train.Trainer.train_step

    def interrupted(self, parts):
        if self.step == 3:
            raise KeyboardInterrupt
        return step(self, parts)

    monkeypatch.setattr(train.Trainer, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train.run(recipe, tmp_path / "cut", tmp_path / "b")
    monkeypatch.setattr(train.Trainer, "train_step", step)
    train.run(recipe, tmp_path / "cut", tmp_path / "b")
    one, other = load_file(tmp_path / "a" / "model.safetensors"), load_file(tmp_path / "b" / "model.safetensors")
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name])
    with pytest.raises(SystemExit, match="another recipe"):
        train.run(train.Recipe(steps=5, batch_size=8), tmp_path / "cut", tmp_path / "b")


def test_a_training_can_go_on_from_a_finished_model(tmp_path, monkeypatch):
    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = train.Qwen3Config
    monkeypatch.setattr(train, "Qwen3Config", lambda **kw: config(**{**kw, **small}))
    train.run(train.Recipe(steps=2, batch_size=8), tmp_path / "first", tmp_path / "a")
    train.run(train.Recipe(steps=2, batch_size=8, learning_rate=1e-9, start=str(tmp_path / "a")), tmp_path / "second", tmp_path / "b")
    one, other = (json.loads((tmp_path / name / "training.json").read_text()) for name in "ab")
    assert (one["started_from"], other["started_from"]["steps"]) == (None, 2)
    assert (tmp_path / "a" / "tokenizer.json").read_text() == (tmp_path / "b" / "tokenizer.json").read_text()
    assert other["loss"] < one["loss"], "it begins where the first one ended"
    average({tmp_path / "a": 0.25, tmp_path / "b": 0.75}, tmp_path / "c")
    first, second, mean = (load_file(tmp_path / name / "model.safetensors")["model.norm.weight"].float() for name in "abc")
    torch.testing.assert_close(mean, 0.25 * first + 0.75 * second, rtol=1e-3, atol=1e-4)
    write_card(tmp_path / "c", "| a table |")
    card = (tmp_path / "c" / "README.md").read_text(encoding="utf-8")
    assert "in 2 stages" in card
    assert "0.25 of stage 1, 0.75 of this" in card


def test_the_shipped_weights_do_what_the_card_says():
    """Evaluate a small sample of the table; the margin covers its sampling error."""
    lines = (WEIGHTS / "README.md").read_text(encoding="utf-8").splitlines()
    card = {
        cells[1].strip(): (float(cells[2]), float(cells[4])) for line in lines if len(cells := line.split("|")) == 7 and "." in cells[2]
    }
    rows = evaluate(count=25, seed=3)
    assert {row.name for row in rows} == set(card)
    for row in rows:
        for value, said in zip((row.trained, row.heldout), card[row.name], strict=True):
            assert value <= said + 0.05 if row.at_most else value >= said - 0.08, row
