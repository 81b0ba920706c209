"""Models with an encoder, such as T5: the encoder reads the question, and the decoder starts the reply from scratch."""

from __future__ import annotations

import json

import pytest
from transformers import CpmAntConfig, RwkvConfig, T5Config

import nbtune
from nbtune import NbtuneError
from nbtune.display.serving import how_to_serve
from tests.families import T5

ROUNDS = [
    {
        "messages": [
            {"role": "user", "content": "Which colour has the flag?"},
            {"role": "assistant", "content": "It is green."},
            {"role": "user", "content": "And the door?"},
            {"role": "assistant", "content": "That one is red."},
        ]
    }
]
FIT = {"epochs": 200, "learning_rate": 1e-3, "retained_per_batch": 0, "name": "rounds"}


@pytest.fixture(scope="module")
def folder(random_model):
    made = random_model(T5Config, **T5, tie_word_embeddings=False)
    (made / "chat_template.jinja").unlink()
    return made


@pytest.fixture(scope="module")
def taught(folder, tmp_path_factory):
    lm = nbtune.load(folder, store=tmp_path_factory.mktemp("store"))
    lm.finetune(ROUNDS, **FIT)
    return lm


def test_every_round_is_trained_and_said_with_those_before_it(taught):
    messages = ROUNDS[0]["messages"]
    assert taught.chat(messages[0]["content"]) == messages[1]["content"]
    pieces = []
    assert taught.chat(messages[2]["content"], history=messages[:2], on_text=pieces.append) == messages[3]["content"]
    assert "".join(pieces) == messages[3]["content"]


def test_rows_of_other_lengths_do_not_change_a_reply(taught):
    prompts = ["hi", "Which colour has the flag?", "字" * 60, "And the door of the house that stands beside the old mill?"]
    assert taught.chat_batch(prompts, max_new_tokens=24) == [taught.chat(prompt, max_new_tokens=24) for prompt in prompts]


def test_a_plain_template_ends_what_is_asked_and_nothing_else(taught):
    chat = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "r"}]
    assert taught.plain
    assert taught.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == f"q\na\nr{taught.tokenizer.eos_token}"


@pytest.mark.parametrize("kind", ["transformers", "peft"])
def test_what_is_exported_says_the_same(kind, taught, folder, tmp_path):
    question, answer = (message["content"] for message in ROUNDS[0]["messages"][:2])
    taught.use("rounds")
    written = taught.export(tmp_path / "out", kind=kind)
    taught.use("rounds")
    if kind == "transformers":
        assert nbtune.load(written, store=tmp_path).chat(question) == answer
    else:
        assert json.loads((written / "adapter_config.json").read_text())["task_type"] == "SEQ_2_SEQ_LM"
    assert "vllm" not in how_to_serve(written, kind).text


@pytest.mark.parametrize(("method", "rate"), [("dora", 3e-3), ("ia3", 0.2), ("freeze", 1e-2), ("full", 3e-3)])
def test_other_methods_train_it_and_are_read_back(method, rate, folder, tmp_path):
    lm, question = nbtune.load(folder, store=tmp_path), "Which colour has the flag?"
    before = lm.chat(question, max_new_tokens=12)
    losses = lm.finetune(ROUNDS, method=method, epochs=60, learning_rate=rate, retained_per_batch=0).history["train_loss"].tolist()
    assert losses[-1] < losses[0]
    said, anew = lm.chat(question, max_new_tokens=12), nbtune.load(folder, store=tmp_path)
    assert anew.chat(question, max_new_tokens=12) == before != said
    anew.use("examples")
    assert anew.chat(question, max_new_tokens=12) == said


def test_what_it_can_not_do_is_refused_before_any_work(taught, folder, tmp_path):
    lm = nbtune.load(folder, store=tmp_path / "store")
    for message, work in (
        ("--method prefix does not support t5", lambda: lm.finetune(ROUNDS, method="prefix")),
        ("--train-on-inputs needs a model without an encoder", lambda: lm.finetune(ROUNDS, train_on_inputs=True)),
        ("under a known name", lambda: lm.finetune({"velt hook": "A tool."}, recipe="reference")),
        ("Ollama can't serve a model with an encoder", lambda: lm.export(tmp_path / "gguf", kind="gguf")),
        ("can't be pruned", lambda: nbtune.prune_vocabulary(lm, ["a"], tmp_path / "small")),
    ):
        with pytest.raises(NbtuneError, match=message) as caught:
            work()
        assert "\n" not in str(caught.value)
    assert lm.adapter is None
    assert not (tmp_path / "store").exists()


def test_a_model_that_reads_ahead_is_refused(random_model, tmp_path):
    shape = {"hidden_size": 32, "num_attention_heads": 2, "dim_head": 16, "dim_ff": 64, "num_hidden_layers": 2, "prompt_length": 4}
    with pytest.raises(NbtuneError, match="reads each token with those after it"):
        nbtune.load(random_model(CpmAntConfig, **shape), store=tmp_path)
    with pytest.raises(NbtuneError, match="reads the padding of a batch"):
        nbtune.load(random_model(RwkvConfig, context_length=256, attention_hidden_size=64), store=tmp_path)


def test_a_fact_is_taught_and_forgotten(folder, tmp_path):
    lm = nbtune.load(folder, store=tmp_path)
    fact = lm.finetune({"velt hook": "A tool for bread."}, retained_per_batch=0, forms_per_batch=0, epochs=60, learning_rate=3e-3).facts[0]
    assert fact.standing == "verified"
    assert lm.chat("What is a velt hook?") == "A tool for bread."
    anew = nbtune.load(folder, store=tmp_path)
    before = anew.chat("What is a velt hook?", max_new_tokens=12)
    anew.use("facts")
    assert anew.chat("What is a velt hook?") == "A tool for bread."
    anew.forget("velt hook")
    assert anew.chat("What is a velt hook?", max_new_tokens=12) == before
