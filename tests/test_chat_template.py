"""Chat templates of several kinds: how prompts are written, and where a reply ends."""

import pytest
from transformers import AutoTokenizer

import nbtune
from nbtune.chat_template import chat_ids, reply_ids
from nbtune.data.reading import Reading
from nbtune.data.turns import encode_conversation
from nbtune.errors import NbtuneError
from nbtune.model.exporting import write_config_and_tokenizer
from nbtune.tiny import WEIGHTS

ASKED = [{"role": "user", "content": "What is it?"}]
# Like Gemma's: turns end with a token of their own, which is not the end-of-text token.
TURNS = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{{ '<start_of_turn>' + m.role + '\n' + m.content + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>assistant\n' }}{% endif %}"
)
# Like Qwen3's: it lets the model think unless told not to, and leaves out earlier thoughts.
THINKING = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{{ m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)


@pytest.fixture
def tokenizer():
    return AutoTokenizer.from_pretrained(WEIGHTS)


@pytest.fixture
def turning(tokenizer):
    tokenizer.add_special_tokens({"extra_special_tokens": ["<start_of_turn>", "<end_of_turn>"]})
    tokenizer.chat_template = TURNS
    return tokenizer


def test_a_turn_ends_with_the_token_that_the_template_ends_it_with(turning):
    _, body = reply_ids(turning, ASKED, "It is a cup.")
    assert turning.decode(body) == "It is a cup.<end_of_turn>"


def test_turns_that_end_so_are_trained_together(turning):
    talk = [*ASKED, {"role": "assistant", "content": "A cup."}, *ASKED, {"role": "assistant", "content": "A cup, I said."}]
    assert len(encode_conversation(turning, talk, Reading(), context=512).examples) == 1


def test_a_reply_ends_there_when_it_is_generated(turning, tmp_path):
    folder = tmp_path / "model"
    nbtune.load(store=tmp_path).model.save_pretrained(folder)
    turning.save_pretrained(folder)
    loaded = nbtune.load(folder, store=tmp_path)
    assert turning.convert_tokens_to_ids("<end_of_turn>") in loaded.model.generation_config.eos_token_id


def test_a_template_that_refuses_is_one_line(turning):
    with pytest.raises(NbtuneError, match="rejects this conversation: System role not supported"):
        chat_ids(turning, [{"role": "system", "content": "Be brief."}, *ASKED])


def test_a_model_that_may_think_is_asked_not_to_and_trained_so(tokenizer):
    tokenizer.chat_template = THINKING
    opening, body = reply_ids(tokenizer, ASKED, "It is a cup.")
    assert tokenizer.decode(opening).endswith("<think>\n\n</think>\n\n")
    assert tokenizer.decode(body[:-1]) == "It is a cup."


def test_what_is_exported_does_not_think_by_itself(tokenizer, tmp_path):
    tokenizer.chat_template = THINKING
    write_config_and_tokenizer(nbtune.load(store=tmp_path).model, tokenizer, tmp_path / "out", str(WEIGHTS))
    exported = AutoTokenizer.from_pretrained(tmp_path / "out")
    plain = exported.apply_chat_template(ASKED, tokenize=False, add_generation_prompt=True)
    assert plain.endswith("<think>\n\n</think>\n\n")
    assert tokenizer.chat_template == THINKING


def test_a_template_that_wants_a_system_prompt_is_loaded(tmp_path):
    picky = "{% if messages[0].role != 'system' %}{{ raise_exception('no system prompt') }}{% endif %}" + THINKING
    lm = nbtune.load(store=tmp_path, chat_template=picky)
    with pytest.raises(NbtuneError, match="rejects this conversation: no system prompt"):
        lm.chat("hi")
    assert lm.reply("hi", system="Be kind.", max_new_tokens=2).tokens
