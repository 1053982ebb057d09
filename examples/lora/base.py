"""Make a base model that is small enough for a CPU: a Llama of 0.4 million weights that knows six capitals.

    python base.py DIRECTORY

Nothing is downloaded. The tokenizer is a byte-level BPE learned from a few sentences, so it can write any text. The
weights are random at first; a few seconds of training teach it the six capitals, and no others.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

SENTENCES = [
    "What is the capital of France? The capital of France is Paris.",
    "Which city is the capital of Peru? Lima is the capital of Peru.",
    "I do not know. Please tell me more about the country and its cities.",
]
KNOWN = {"Chile": "Santiago", "Cuba": "Havana", "Egypt": "Cairo", "France": "Paris", "Ghana": "Accra", "Iran": "Tehran"}
END, PAD, USER, ASSISTANT, SYSTEM = "<|end|>", "<|pad|>", "<|user|>", "<|assistant|>", "<|system|>"

# `generation` marks what the assistant says: training counts only those tokens.
CHAT_TEMPLATE = """\
{% for message in messages %}{{ '<|' + message['role'] + '|>' }}{% if message['role'] == 'assistant' %}\
{% generation %}{{ message['content'] + '<|end|>' }}{% endgeneration %}\
{% else %}{{ message['content'] + '<|end|>' }}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"""


def make_tokenizer() -> PreTrainedTokenizerFast:
    """256 bytes, the commonest pieces of the sentences, and the marks of a chat."""
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(SENTENCES, vocab_size=384, special_tokens=[PAD, END, USER, ASSISTANT, SYSTEM])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token=END, pad_token=PAD)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Two layers of 128, random weights."""
    set_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def teach(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, steps: int = 80) -> None:
    """Ordinary training on all weights, the loss on the answers only."""
    chats = [
        [{"role": "user", "content": f"What is the capital of {country}?"}, {"role": "assistant", "content": capital}]
        for country, capital in KNOWN.items()
    ]
    batch = tokenizer.apply_chat_template(
        chats, return_dict=True, return_tensors="pt", padding=True, return_assistant_tokens_mask=True
    )
    answers = torch.as_tensor(batch["assistant_masks"]).bool()
    labels = batch["input_ids"].masked_fill(~answers, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(steps):
        loss = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def main(directory: Path) -> None:
    """Write model and tokenizer to `directory`, as from a model hub."""
    torch.set_num_threads(1)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    teach(model, tokenizer)
    tokenizer.save_pretrained(directory)
    model.save_pretrained(directory)
    print(f"{model.num_parameters():,} weights and {len(KNOWN)} capitals in {directory}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
