"""Training on conversations: the assistant's turns exactly as the template writes them, and what is cut."""

from __future__ import annotations

import pytest

from nbtune.data.encoding import IGNORED, encode
from nbtune.data.reading import Reading
from nbtune.data.turns import encode_conversation
from nbtune.errors import NbtuneError

CHAT = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "你知道灯吗"},
    {"role": "assistant", "content": "知道。"},
    {"role": "user", "content": "and a boat?"},
    {"role": "assistant", "content": "A boat swims."},
]
# A template that leaves out earlier replies, like those that drop earlier thoughts.
FORGETFUL = (
    "{% for m in messages %}{% if m.role == 'user' or loop.last %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    from nbtune.tiny import WEIGHTS

    return AutoTokenizer.from_pretrained(WEIGHTS)


def trained(tokenizer, example):
    return tokenizer.decode([label for label in example.labels if label != IGNORED])


def test_all_turns_are_trained_in_one_example(tokenizer):
    turns = encode_conversation(tokenizer, CHAT, Reading(), context=512)
    (example,) = turns.examples
    assert trained(tokenizer, example) == "知道。<|end|>A boat swims.<|end|>"
    assert tokenizer.decode(example.input_ids).rstrip() == tokenizer.apply_chat_template(CHAT, tokenize=False).rstrip()
    assert not turns.cut


def test_only_the_last_turn(tokenizer):
    (example,) = encode_conversation(tokenizer, CHAT, Reading(turns="last"), context=512).examples
    assert trained(tokenizer, example) == "A boat swims.<|end|>"
    assert "知道。" in tokenizer.decode(example.input_ids)


def test_one_round_is_what_a_fact_is(tokenizer):
    (example,) = encode_conversation(tokenizer, CHAT[1:3], Reading(), context=512).examples
    assert example == encode(tokenizer, "你知道灯吗", "知道。", context=512)


def test_a_template_that_writes_old_turns_otherwise_gets_an_example_for_each(tokenizer):
    before, tokenizer.chat_template = tokenizer.chat_template, FORGETFUL
    try:
        turns = encode_conversation(tokenizer, CHAT[1:], Reading(), context=512)
        opening = tokenizer.apply_chat_template(CHAT[1:4], add_generation_prompt=True, tokenize=False)
    finally:
        tokenizer.chat_template = before
    assert [trained(tokenizer, example) for example in turns.examples] == ["知道。<|end|>", "A boat swims.<|end|>"]
    assert tokenizer.decode(turns.examples[1].input_ids).startswith(opening)


def test_the_users_words_on_request(tokenizer):
    (example,) = encode_conversation(tokenizer, CHAT, Reading(train_on_inputs=True), context=512).examples
    assert example.labels == [IGNORED, *example.input_ids[1:]], "nothing predicts the first token"


def test_the_users_words_are_trained_once(tokenizer):
    before, tokenizer.chat_template = tokenizer.chat_template, FORGETFUL
    try:
        first, last = encode_conversation(tokenizer, CHAT[1:], Reading(train_on_inputs=True), context=512).examples
    finally:
        tokenizer.chat_template = before
    assert trained(tokenizer, first) == "知道。<|end|>", "the example of the last turn has all of it"
    assert last.labels == [IGNORED, *last.input_ids[1:]]


@pytest.mark.parametrize("limits", [{}, {"max_source_length": 300}, {"max_target_length": 200}])
def test_limits_that_cut_nothing_change_nothing(tokenizer, limits):
    whole = encode_conversation(tokenizer, CHAT, Reading(train_on_inputs=True), context=512)
    assert encode_conversation(tokenizer, CHAT, Reading(train_on_inputs=True, **limits), context=512) == whole


def test_the_users_words_are_trained_beside_each_reply_where_rounds_are_left_out(tokenizer):
    whole = encode_conversation(tokenizer, CHAT, Reading(turns="last"), context=512).examples[0]
    room = len(whole.input_ids) - whole.trained - 1
    turns = encode_conversation(tokenizer, CHAT, Reading(train_on_inputs=True, max_source_length=room), context=512)
    assert turns.cut
    assert len(turns.examples) > 1
    assert all(example.labels == [IGNORED, *example.input_ids[1:]] for example in turns.examples)


def test_old_rounds_go_first_then_the_end_of_the_question(tokenizer):
    whole = encode_conversation(tokenizer, CHAT, Reading(turns="last"), context=512).examples[0]
    room = len(whole.input_ids) - whole.trained - 1
    turns = encode_conversation(tokenizer, CHAT, Reading(turns="last", max_source_length=room), context=512)
    text = tokenizer.decode(turns.examples[0].input_ids)
    assert turns.cut
    assert "be kind" in text
    assert "and a boat?" in text
    assert "你知道灯吗" not in text
    long = [{"role": "user", "content": "one two three four five six"}, {"role": "assistant", "content": "yes"}]
    turns = encode_conversation(tokenizer, long, Reading(max_source_length=6), context=512)
    assert turns.cut
    assert tokenizer.decode(turns.examples[0].input_ids).startswith("<|user|>one")
    assert len(turns.examples[0].input_ids) - turns.examples[0].trained <= 6


@pytest.mark.parametrize("limits", [{}, {"max_source_length": 30}])
def test_a_reply_that_has_room_without_the_old_rounds_is_whole(tokenizer, limits):
    old = [{"role": "user", "content": "字" * 60}, {"role": "assistant", "content": "yes"}]
    turns = encode_conversation(
        tokenizer,
        [*old, {"role": "user", "content": "say it"}, {"role": "assistant", "content": "词" * 80}],
        Reading(turns="last", **limits),
        context=128,
    )
    assert turns.cut
    assert trained(tokenizer, turns.examples[0]) == "词" * 80 + "<|end|>"


def test_a_reply_that_is_cut_does_not_end(tokenizer):
    turns = encode_conversation(tokenizer, CHAT[1:3], Reading(max_target_length=1), context=512)
    assert turns.cut
    assert turns.examples[0].trained == 1
    assert "<|end|>" not in trained(tokenizer, turns.examples[0])


def test_what_is_longer_than_the_context_is_cut_to_it(tokenizer):
    long = [{"role": "user", "content": "字" * 300}, {"role": "assistant", "content": "词" * 300}]
    turns = encode_conversation(tokenizer, long, Reading(), context=128)
    assert turns.cut
    assert len(turns.examples[0].input_ids) <= 128
    assert turns.examples[0].trained == 64


@pytest.mark.parametrize("question", ["龘" * 300, "a" + "龘" * 300])
def test_a_cut_inside_a_character_leaves_it_out(tokenizer, question):
    turns = encode_conversation(tokenizer, [{"role": "user", "content": question}, CHAT[2]], Reading(), context=128)
    text = tokenizer.decode(turns.examples[0].input_ids)
    assert turns.cut
    assert "龘" in text
    assert "\ufffd" not in text


def test_more_room_for_a_reply_than_there_is_takes_no_room_from_the_question(tokenizer):
    long = [{"role": "user", "content": "字 " * 30}, {"role": "assistant", "content": "词" * 600}]
    whole, limited = (
        encode_conversation(tokenizer, long, reading, context=512) for reading in (Reading(), Reading(max_target_length=1024))
    )
    assert whole == limited


def test_a_question_without_any_room_is_refused(tokenizer):
    with pytest.raises(NbtuneError, match="does not fit: raise --max-source-length, or shorten"):
        encode_conversation(tokenizer, CHAT, Reading(max_source_length=2), context=512)
    long = [{"role": "system", "content": "字 " * 600}, *CHAT[-2:]]
    with pytest.raises(NbtuneError, match="does not fit: shorten the system prompt"):
        encode_conversation(tokenizer, long, Reading(), context=512)
