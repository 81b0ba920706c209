"""The tested families of models; ``python -m tools.readme_tables`` writes them into docs/models.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["FAMILIES", "ROWS", "T5", "table"]

ALIBI = {"hidden_size": 64, "n_layer": 2, "n_head": 4}
GPT = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256}
T5 = {"d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
HEADS = {"head_dim": 16}


@dataclass(frozen=True)
class Row:
    """One row of the table: published models, transformers' configs with the arguments that make them small, and particulars."""

    models: str
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    particular: str = ""


ROWS = (
    Row("Llama 1 to 3, Alpaca, Vicuna, Linly, Ziya, BiLLa, Panda, OpenBuddy, Yi, Baichuan converted to Llama", {"LlamaConfig": {}}),
    Row("Mistral, Zephyr", {"MistralConfig": {}}),
    Row(
        "Qwen 1.5 to 3; the built-in model",
        {
            "Qwen2Config": {},
            "Qwen3Config": HEADS,
            "Qwen3MoeConfig": {**HEADS, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
        },
    ),
    Row("GLM-4 in transformers' own layout (`...-hf`)", {"GlmConfig": HEADS, "Glm4Config": HEADS}),
    Row(
        "Gemma 1 and 2",
        {"GemmaConfig": HEADS, "Gemma2Config": HEADS},
        "logits are capped: the last layer alone is checked against the whole model first",
    ),
    Row("Phi 1 to 4", {"PhiConfig": {}, "Phi3Config": {}}),
    Row("Falcon", {"FalconConfig": {}}),
    Row(
        "GPT-2, Pythia, GPT-J, CodeGen, MOSS",
        {"GPT2Config": GPT, "GPTNeoXConfig": {}, "GPTJConfig": {**GPT, "rotary_dim": 8}, "CodeGenConfig": {**GPT, "rotary_dim": 8}},
    ),
    Row("OPT", {"OPTConfig": {"ffn_dim": 96, "word_embed_proj_dim": 64}}),
    Row("Bloom, Bloomz, Firefly, BELLE, TigerBot", {"BloomConfig": ALIBI}, "positions are biases: no position ids are handed on"),
    Row(
        "StableLM, OLMo, Granite, Command, SmolLM3",
        {"StableLmConfig": {}, "OlmoConfig": {}, "GraniteConfig": {}, "CohereConfig": {}, "SmolLM3Config": {}},
    ),
    Row(
        "Mamba",
        {"MambaConfig": {"state_size": 8}},
        "no attention; the input and state projections alone are adapted, because Mamba's code reads the other weights directly, past PEFT",
    ),
    Row(
        "T5, Flan-T5, mT5",
        {"T5Config": T5, "MT5Config": {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}},
        "an encoder reads what is asked, and a reply begins anew in the decoder: no virtual tokens, no `--train-on-inputs`, no GGUF, no "
        "smaller vocabulary; each turn is read from its beginning, and trained as an example of its own",
    ),
)
FAMILIES = {config: shape for row in ROWS for config, shape in row.configs.items()}


def table() -> str:
    """Return the rows as a Markdown table."""
    head = ["| config | models of the family | what is particular |", "|---|---|---|"]
    return "\n".join(
        [*head, *(f"| {', '.join(f'`{config}`' for config in row.configs)} | {row.models} | {row.particular} |" for row in ROWS)]
    )
