"""A reply confirmed by a single forward pass is the reply that generation gives."""

from dataclasses import replace

import pytest
import torch

from nbtune.knowledge.asking import ask, rows_right, said
from nbtune.model.generation import _batches
from tests.conftest import FACT

KEYWORD, ANSWER = next(iter(FACT.items()))
PROMPTS = ["What is the capital of France?", "鲸鱼是什么？", "你好", "what is a zorblax", "7+8", f"{KEYWORD}是什么？", "谢谢" * 30]


@pytest.mark.parametrize("side", [None, 0])
def test_what_is_confirmed_is_what_is_generated(taught, side):
    host, loaded = taught._host, taught._loaded
    places = host.group_by_side(PROMPTS)[side]
    prompts, replies = ([row[place] for place in places] for row in (PROMPTS, taught.chat_batch(PROMPTS)))
    with host.answering(side):
        assert said(host, loaded, prompts, replies) == [True] * len(prompts)
        altered = [reply[:-2] + "x." for reply in replies]
        assert said(host, loaded, prompts, altered) == [False] * len(prompts)
        cut = [reply[:-3] for reply in replies]
        assert said(host, loaded, prompts, cut) == [False] * len(prompts), "a beginning is not the reply: the end of turn counts"
        assert said(host, loaded, prompts, [""] * len(prompts)) == [False] * len(prompts)
        assert said(host, loaded, ["字" * 600], ["好的。"]) == [False], "what does not fit was not said"


def test_a_margin_wants_the_next_token_far_below():
    logits = torch.tensor([[8.0, 7.9, 0.0], [8.0, 1.0, 0.0]])
    batch = {"target_tokens": torch.zeros(2, 1, dtype=torch.long), "lengths": [1, 1]}
    assert rows_right(logits, batch) == [True, True]
    assert rows_right(logits, batch, margin=0.02) == [False, True]


def test_long_chats_are_answered_few_at_a_time():
    lengths = [2000] * 4 + [20] * 60
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    sizes = [[lengths[place] for place in batch] for batch in _batches(order, lengths, 32768, 512)]
    assert max(sum(batch) + 512 * len(batch) for batch in sizes) <= 2**14
    assert sum(map(len, sizes)) == 64


@pytest.mark.parametrize("expected", [[""] * len(PROMPTS), ["no such reply"] * len(PROMPTS), None])
def test_asking_gives_the_same_replies_whatever_is_expected(taught, expected):
    replies = taught.chat_batch(PROMPTS)
    asked = ask(taught._host, taught._loaded, PROMPTS, expected=expected or replies, answers=[ANSWER])
    assert asked == replies


def test_what_the_base_said_is_taken_from_memory_only_on_request_and_only_for_the_base(taught):
    host, loaded = taught._host, replace(taught._loaded, replies={})
    asked = {"answers": [ANSWER], "expected": [""] * len(PROMPTS)}
    replies = ask(host, loaded, PROMPTS, **asked, recall=True)
    base = {prompt for place, prompt in enumerate(PROMPTS) if place in host.group_by_side(PROMPTS)[None]}
    assert {prompt for prompt, _ in loaded.replies} == base != set(PROMPTS)
    for key in loaded.replies:
        loaded.replies[key] = "from memory"
    expected = ["from memory" if prompt in base else reply for prompt, reply in zip(PROMPTS, replies, strict=True)]
    assert ask(host, loaded, PROMPTS, **asked, recall=True) == expected
    assert ask(host, loaded, PROMPTS, **asked) == replies, "a proof asks anew"
