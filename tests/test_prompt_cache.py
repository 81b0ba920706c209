"""A conversation is read once: a later turn reads only new tokens, and never uses keys and values of other weights."""

import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, MistralConfig
from transformers.cache_utils import DynamicCache, DynamicLayer

import nbtune
from nbtune.model.generation import generate, prompt_length
from nbtune.model.growing_layer import GrowingLayer
from nbtune.model.prompt_cache import PromptCache
from nbtune.model.sampling import Sampling

FIRST, SECOND = "My dog is called Rex.", "What is my dog called?"


@pytest.fixture
def lm(tmp_path):
    return nbtune.load(store=tmp_path)


def talk(lm, *, change=lambda history: history):
    """Have two turns; return the second reply and its history."""
    reply = lm.reply(FIRST)
    history = change([{"role": "user", "content": FIRST}, {"role": "assistant", "content": reply.text}])
    return lm.reply(SECOND, history=history), history


def fresh(lm, history, tmp_path):
    return nbtune.load(store=tmp_path / "fresh").reply(SECOND, history=history)


def test_the_second_turn_reads_only_what_is_new(lm, tmp_path):
    reply, history = talk(lm)
    whole = fresh(lm, history, tmp_path)
    assert whole.prompt_tokens_read == whole.prompt_tokens == reply.prompt_tokens
    assert reply.prompt_tokens_read < reply.prompt_tokens / 2
    assert reply.text == whole.text


def test_a_changed_history_is_read_from_where_it_changed(lm, tmp_path):
    other = [{"role": "user", "content": "My dog is called Bella."}, {"role": "assistant", "content": "OK."}]
    reply, history = talk(lm, change=lambda _: other)
    whole = fresh(lm, history, tmp_path)
    assert 0 < reply.prompt_tokens - reply.prompt_tokens_read < 10
    assert reply.text == whole.text


def test_another_adapter_reads_all_of_it(lm):
    _, history = talk(lm)
    torch.manual_seed(0)
    # Strong enough to change the reply of the base.
    lm._host.begin(LoraConfig(r=4, lora_alpha=64, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"))
    tuned = lm.reply(SECOND, history=history, max_new_tokens=16)
    assert tuned.prompt_tokens_read == tuned.prompt_tokens
    with lm.base():
        base = lm.reply(SECOND, history=history)
        assert base.prompt_tokens_read == base.prompt_tokens, "the stamp is another one, although the base answers"
        assert lm.reply(SECOND, history=history).prompt_tokens_read == 1
    assert lm.reply(SECOND, history=history).prompt_tokens_read == 1, "each side keeps its own"
    assert base.text != tuned.text
    lm._host.clear()
    assert lm.reply(SECOND, history=history).text == base.text


def test_why_a_reply_ends_before_its_end(lm):
    assert lm.reply("What is a whale?").cut == ""
    short = lm.reply("What is a whale?", max_new_tokens=3)
    assert (short.cut, short.tokens) == ("limit", 3)
    assert lm.reply("What is a whale?", max_new_tokens=3, stop=(short.text.split()[0],)).cut == ""
    lengths = {n: prompt_length(lm.tokenizer, [{"role": "user", "content": "word " * n + "What is a whale?"}]) for n in range(100, 400)}
    words = next(n for n, length in lengths.items() if 1 <= lm.context - length <= 3)
    full = lm.reply("word " * words + "What is a whale?")
    assert (full.cut, full.prompt_tokens + full.tokens) == ("context", lm.context)


def test_numbers_may_be_whole(lm):
    assert lm.chat("What is a whale?", temperature=2, repetition_penalty=2, seed=1, max_new_tokens=4)


def test_an_interrupted_reply_leaves_nothing_half_read(lm, tmp_path):
    def stop(_):
        raise KeyboardInterrupt

    reply, history = talk(lm)
    assert not lm.reply(SECOND, history=history, on_text=stop).finished
    again = lm.reply(SECOND, history=history)
    assert again.prompt_tokens_read == again.prompt_tokens
    assert again.text == reply.text


def test_a_sliding_window_is_not_kept(lm):
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(lm.tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        sliding_window=8,
    )
    net, cache, chat = AutoModelForCausalLM.from_config(config).eval(), PromptCache(), [{"role": "user", "content": FIRST}]
    for _ in range(2):
        reply = generate(net, lm.tokenizer, chat, context=512, sampling=Sampling(max_new_tokens=4), cache=cache)
        assert reply.prompt_tokens_read == reply.prompt_tokens


def test_stats_say_what_was_measured(lm):
    reply, _ = talk(lm)
    assert 0 < reply.first_token_seconds <= reply.seconds
    assert reply.stats().endswith(f"{reply.tokens} tokens · read {reply.prompt_tokens_read} of {reply.prompt_tokens}")
    assert len(lm.tokenizer(reply.text)["input_ids"]) in (reply.tokens, reply.tokens - 1), "the end of turn is a token, too"


def test_all_that_is_kept_is_bounded_and_of_the_weights_in_force(lm, monkeypatch):
    cache, chat = PromptCache(), [{"role": "user", "content": FIRST}]

    def ask(side, stamp):
        return generate(
            lm.model, lm.tokenizer, chat, context=512, sampling=Sampling(max_new_tokens=4), cache=cache, weights=(side, stamp)
        ).prompt_tokens_read

    whole = ask(0, 1)
    size = next(iter(cache._kept.values())).size
    monkeypatch.setattr("nbtune.model.prompt_cache._MOST_BYTES", int(2.5 * size))
    for side in (1, 2):
        assert ask(side, 1) == whole
    assert list(cache._kept) == [1, 2], "the oldest went"
    assert ask(1, 1) < whole
    assert ask(3, 2) == whole
    assert list(cache._kept) == [3], "what other weights read is of no use any more"


def test_a_later_turn_writes_behind_what_was_read(lm):
    def places():
        (kept,) = lm._cache._kept.values()
        return [layer.keys.data_ptr() for layer in kept.cache.layers]

    history = [{"role": "user", "content": FIRST}, {"role": "assistant", "content": lm.reply(FIRST).text}]
    before = places()  # memory for more tokens is reserved after the first reply
    reply = lm.reply(SECOND, history=history)
    history += [{"role": "user", "content": SECOND}, {"role": "assistant", "content": reply.text}]
    third = lm.reply("And then?", history=history)
    assert third.prompt_tokens_read < third.prompt_tokens / 2
    assert places() == before, "nothing was copied"
    (kept,) = lm._cache._kept.values()
    assert kept.size == sum(whole.nbytes for layer in kept.cache.layers for whole in (layer._all_keys, layer._all_values)), "with its room"


def test_where_strides_are_not_sure_a_conversation_is_kept_as_transformers_does(lm, monkeypatch):
    monkeypatch.setattr("nbtune.model.prompt_cache._STRIDED", ())
    talk(lm)
    (kept,) = lm._cache._kept.values()
    assert all(type(layer) is DynamicLayer for layer in kept.cache.layers)


def test_room_of_a_long_conversation_is_given_back(lm, monkeypatch):
    monkeypatch.setattr("nbtune.model.growing_layer._ROOM", 16)

    def size():
        (kept,) = lm._cache._kept.values()
        return kept.size

    reply, history = talk(lm)
    lm._cache = PromptCache()
    lm.reply(SECOND, history=history)
    short = size()
    lm.reply(
        "word " * 200,
        history=[*history, {"role": "user", "content": SECOND}, {"role": "assistant", "content": reply.text}],
        max_new_tokens=2,
    )
    long = size()
    lm.reply(SECOND, history=history)
    assert size() == short
    assert long > 1.4 * short


def test_a_growing_layer_gives_what_a_dynamic_one_gives():
    torch.manual_seed(0)

    def states(length):
        return torch.randn(2, 3, length, 4), torch.randn(2, 3, length, 4)

    usual = DynamicLayer()
    usual.update(*states(5))
    ours = GrowingLayer(usual)

    def both(work):
        for layer in (usual, ours):
            work(layer)
        assert torch.equal(usual.keys, ours.keys)
        assert torch.equal(usual.values, ours.values)
        assert usual.get_seq_length() == ours.get_seq_length()

    for length in (1, 6, 200, 1, 300, 1, 300, 1):  # exceeds the reserved memory twice
        new = states(length)
        returned = [layer.update(*new) for layer in (usual, ours)]
        assert all(torch.equal(one, other) for one, other in zip(*returned, strict=True))
        both(lambda layer: layer.crop(-1))
    swapped = torch.tensor([1, 0])
    both(lambda layer: layer.reorder_cache(swapped))
    new = states(2)
    both(lambda layer: layer.update(*new))
    assert not ours.wasteful()
    both(lambda layer: layer.crop(-700))
    assert ours.wasteful()


def test_keys_and_values_of_other_weights_are_never_taken():
    cache, read = PromptCache(), DynamicCache()
    read.update(torch.zeros(1, 1, 3, 2), torch.zeros(1, 1, 3, 2), 0)
    cache.keep(0, 1, [5, 6, 7], read)
    assert cache.take(0, 2, [5, 6, 7, 8]) is None
    cache.keep(0, 1, [5, 6, 7], read)
    assert cache.take(0, 1, [5, 6, 7, 8]) is not None
