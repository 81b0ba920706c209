"""An adapter without a gate replies with its weights added to the base's, which are restored bit for bit."""

import gc
import weakref

import pytest
import torch

import nbtune
from nbtune.model import merging
from tests.conftest import FACT, FEW

ROWS = [{"question": f"Order: {n} lamps", "answer": f"Please send {n} lamps."} for n in range(2, 10)]
QUESTION = "Order: 4 lamps"


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Stores with adapters of examples, by method and dtype."""
    made = {}
    for method, dtype in (("lora", None), ("dora", None), ("lora", "bfloat16")):
        folder = tmp_path_factory.mktemp("store")
        nbtune.load(store=folder, dtype=dtype).finetune(ROWS, epochs=2, method=method)
        made[method, dtype] = folder
    return made


@pytest.fixture
def lm(stores):
    lm = nbtune.load(store=stores["lora", None])
    lm.use("examples")
    return lm


def states(lm):
    """Return the addresses of the base's weights, and copies of the weights."""
    lm.model  # noqa: B018 - removes what is not in use
    own = [(name, weight) for name, weight in lm._loaded.model.named_parameters() if "lora" not in name]
    return {name.replace(".base_layer", ""): (weight.data_ptr(), weight.clone()) for name, weight in own}


def assert_untouched(lm, before):
    after = states(lm)
    assert after.keys() == before.keys()
    for name, (place, weight) in before.items():
        assert after[name][0] == place
        assert torch.equal(after[name][1], weight)


def in_place(lm):
    return lm._host._merged._in_place


def test_the_second_reply_is_that_of_sums_and_says_the_same(lm):
    before, seen = states(lm), []
    replies = [lm.reply(QUESTION, on_text=lambda _: seen.append(in_place(lm))).text for _ in range(3)]
    assert len(set(replies)) == 1
    assert (seen[0], seen[-1]) == (False, True)
    assert not in_place(lm)
    assert_untouched(lm, before)


def test_sums_give_the_logits_of_the_adapter(lm):
    for _ in range(2):
        lm.reply(QUESTION, max_new_tokens=1)
    tokens = torch.tensor([[3, 5, 8, 13, 21]])
    with torch.inference_mode():
        adapted = lm.model(input_ids=tokens).logits
        with lm._host.merged_weights():
            summed = lm._host.net(input_ids=tokens).logits
        with lm.base():
            base = lm.model(input_ids=tokens).logits
    torch.testing.assert_close(summed, adapted, rtol=1e-4, atol=1e-4)
    assert (base - adapted).abs().max() > 0.1, "the adapter does something"


def test_the_base_answers_as_ever_beside_them(lm, tmp_path):
    fresh = nbtune.load(store=tmp_path).chat("What is the capital of France?")
    for _ in range(3):
        lm.reply(QUESTION)
        with lm.base():
            assert lm.chat("What is the capital of France?") == fresh


@pytest.mark.parametrize("at", ["a token", "the way there"])
def test_ctrl_c_leaves_the_base_as_it_was(lm, monkeypatch, at):
    lm.reply(QUESTION)
    before = states(lm)

    def stop(*_arguments):
        raise KeyboardInterrupt

    if at == "a token":
        assert not lm.reply(QUESTION, on_text=stop).finished
    else:
        put_in = merging.MergedWeights.put_in
        monkeypatch.setattr(merging.MergedWeights, "put_in", lambda sums: (put_in(sums), stop()))
        with pytest.raises(KeyboardInterrupt):
            lm.reply(QUESTION)
    assert_untouched(lm, before)
    monkeypatch.undo()
    assert lm.reply(QUESTION).finished


def test_what_is_left_in_place_is_taken_out_before_anything_else_answers(lm):
    before = states(lm)
    for _ in range(2):
        lm.reply(QUESTION)
    lm._host._merged.put_in()  # as left by an interrupt while they are taken out
    with lm.base():
        assert_untouched(lm, before)
    lm._host._merged.put_in()
    lm.use(None)
    assert_untouched(lm, before)


def test_sums_go_with_the_adapter(lm):
    for _ in range(2):
        lm.reply(QUESTION)
    sums = weakref.ref(lm._host._merged)
    lm.use(None)
    gc.collect()
    assert sums() is None


def test_behind_a_gate_none_are_made(tmp_path):
    lm = nbtune.load(store=tmp_path)
    lm.finetune(FACT, prompts=FEW)
    for _ in range(3):
        lm.reply(FEW[0].replace("{x}", next(iter(FACT))))
    assert not lm._host._merged._weights


@pytest.mark.parametrize(("method", "dtype"), [("dora", None), ("lora", "bfloat16")])
def test_where_a_sum_is_not_what_the_layers_compute_none_is_made(stores, method, dtype):
    lm = nbtune.load(store=stores[method, dtype], dtype=dtype)
    lm.use("examples")
    for _ in range(3):
        lm.reply(QUESTION, max_new_tokens=2)
    assert not lm._host._merged._weights


def test_a_weight_in_several_places_has_no_sum(lm):
    lm._host.clear()
    one, other = (lm._loaded.model.model.layers[at].mlp for at in (0, 1))
    other.up_proj.weight = one.up_proj.weight
    lm.use("examples")
    for _ in range(3):
        lm.reply(QUESTION, max_new_tokens=2)
    assert not lm._host._merged._weights


def test_where_the_memory_is_full_the_layers_go_on(lm, monkeypatch):
    def full(*_arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(merging, "_merge", full)
    replies = {lm.chat(QUESTION) for _ in range(4)}
    assert len(replies) == 1
    assert not lm._host._merged._weights


def test_large_ones_are_not_made(lm, monkeypatch):
    monkeypatch.setattr(merging, "_MOST_BYTES", 2**20)
    for _ in range(3):
        lm.reply(QUESTION, max_new_tokens=2)
    assert not lm._host._merged._weights
