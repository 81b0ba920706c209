"""Models of many families, small and of random weights: each is taught one example, saved, loaded anew, and undone."""

from __future__ import annotations

import pytest
import transformers

import nbtune

ROWS = [{"question": "Which colour has the flag?", "answer": "It is green."}]
ALIBI = {"hidden_size": 64, "n_layer": 2, "n_head": 4}
GPT = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256}
T5 = {"d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
FAMILIES = {
    "LlamaConfig": {},
    "MistralConfig": {},
    "Qwen2Config": {},
    "Qwen3Config": {"head_dim": 16},
    "GlmConfig": {"head_dim": 16},
    "Glm4Config": {"head_dim": 16},
    "GemmaConfig": {"head_dim": 16},
    "Gemma2Config": {"head_dim": 16},
    "PhiConfig": {},
    "Phi3Config": {},
    "FalconConfig": {},
    "GPT2Config": GPT,
    "GPTNeoXConfig": {},
    "GPTJConfig": {**GPT, "rotary_dim": 8},
    "CodeGenConfig": {**GPT, "rotary_dim": 8},
    "OPTConfig": {"ffn_dim": 96, "word_embed_proj_dim": 64},
    "BloomConfig": ALIBI,
    "StableLmConfig": {},
    "OlmoConfig": {},
    "GraniteConfig": {},
    "CohereConfig": {},
    "Qwen3MoeConfig": {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    "SmolLM3Config": {},
    "MambaConfig": {"state_size": 8},
    "T5Config": T5,
    "MT5Config": {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "RwkvConfig": {"context_length": 256, "attention_hidden_size": 64},
}


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
