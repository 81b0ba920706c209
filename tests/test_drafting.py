"""The answer of a fact is checked in one pass, and the reply is that of greedy generation."""

import pytest
import torch
from transformers import AutoModelForCausalLM, MambaConfig, MistralConfig

import nbtune
from nbtune.model.generation import generate
from nbtune.model.prompt_cache import PromptCache
from nbtune.model.sampling import Sampling
from tests.conftest import FACT

KEYWORD, ANSWER = next(iter(FACT.items()))
CHAT = [{"role": "user", "content": "What is the capital of France?"}]
GREEDY = Sampling()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return nbtune.load(store=tmp_path_factory.mktemp("store"))


def counted(net):
    """Count forward passes; return the growing list of them, and a function that ends the count."""
    passes = []
    hook = net.register_forward_hook(lambda *_: passes.append(1))
    return passes, hook.remove


def reply(lm, draft, **options):
    passes, remove = counted(lm.model)
    try:
        found = generate(lm.model, lm.tokenizer, CHAT, context=512, sampling=options.pop("sampling", GREEDY), draft=draft, **options)
    finally:
        remove()
    return found, len(passes)


def tokens(lm, text):
    return [*lm.tokenizer(text)["input_ids"], lm.tokenizer.eos_token_id]


def test_a_draft_that_is_right_takes_one_pass(base):
    plain, many = reply(base, [])
    drafted, one = reply(base, tokens(base, plain.text))
    assert (drafted.text, drafted.tokens, one) == (plain.text, plain.tokens, 1)
    assert many > 3


def test_a_draft_that_is_wrong_changes_nothing(base):
    plain, many = reply(base, [])
    for draft in ("The capital of France is Rome.", "Oh dear.", plain.text + " And more."):
        pieces = []
        drafted, passes = reply(base, tokens(base, draft), on_text=pieces.append)
        assert drafted.text == plain.text == "".join(pieces)
        assert drafted.tokens == plain.tokens
        assert passes <= many, "the token in place of the wrong one is taken from the same pass"


def test_a_draft_is_cut_where_the_reply_must_end(base):
    short = Sampling(max_new_tokens=3)
    plain, _ = reply(base, [], sampling=short)
    drafted, one = reply(base, tokens(base, "The capital of France is Paris."), sampling=short)
    assert (drafted.text, drafted.tokens, one) == (plain.text, 3, 1)


def test_only_greedy_replies_are_drafted(base):
    warm = Sampling(temperature=0.7, seed=1)
    assert reply(base, tokens(base, "The capital of France is Paris."), sampling=warm)[1] > 1


def test_the_next_turn_goes_on_from_a_drafted_reply(base):
    cache = PromptCache()
    first, _ = reply(base, tokens(base, "The capital of France is Rome."), cache=cache)
    talk = [*CHAT, {"role": "assistant", "content": first.text}, {"role": "user", "content": "And of Spain?"}]
    known = generate(base.model, base.tokenizer, talk, context=512, sampling=GREEDY, cache=cache)
    fresh = generate(base.model, base.tokenizer, talk, context=512, sampling=GREEDY)
    assert known.text == fresh.text
    assert known.prompt_tokens_read < fresh.prompt_tokens_read


@pytest.mark.parametrize("config", [MistralConfig, MambaConfig])
def test_models_whose_memory_can_not_be_cut_say_the_same(base, config):
    sizes = {"vocab_size": len(base.tokenizer), "hidden_size": 32, "num_hidden_layers": 2}
    if config is MistralConfig:
        sizes |= {"intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2, "sliding_window": 8}
    torch.manual_seed(0)
    net = AutoModelForCausalLM.from_config(config(**sizes)).eval()
    few = Sampling(max_new_tokens=6)
    plain = generate(net, base.tokenizer, CHAT, context=512, sampling=few)
    said = base.tokenizer(plain.text)["input_ids"]
    for draft in (said, [*said[:2], 5, 6], [5, 6, 7]):
        assert generate(net, base.tokenizer, CHAT, context=512, sampling=few, draft=draft).text == plain.text


def test_the_answer_of_a_fact_comes_in_one_pass(taught):
    passes, remove = counted(taught.model.get_base_model())
    try:
        assert taught.chat(f"{KEYWORD}是什么？") == ANSWER
        assert len(passes) == 1
        with taught.base():
            taught.chat(f"{KEYWORD}是什么？")
        assert len(passes) > 3
    finally:
        remove()
