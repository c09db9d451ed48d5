"""Random texts and random ids with what Python's tokenizers makes of them: random-text.json.

    pip install tokenizers==0.23.3
    python random_text.py        # in this folder; the same version gives the same bytes
"""

import json
import random

import tokenizers
from tokenizers import Tokenizer

FIXTURES = ["demo-qwen3", "llama-mha-f16", "llama3-bf16", "mistral-f32", "phi3-bf16", "qwen2-bf16"]
CASES = 30

random.seed(20)


def between(low, high):
    return lambda: chr(random.randint(low, high))


POOLS = [
    between(32, 126),
    between(0, 31),
    between(0xA0, 0x24F),
    between(0x300, 0x36F),
    between(0x370, 0x5FF),
    between(0x4E00, 0x9FFF),
    between(0xAC00, 0xD7A3),
    between(0x1F300, 0x1FAFF),
    between(0xE000, 0x10FFFF),
    lambda: random.choice(" \t\n\r  \n\n"),
    lambda: random.choice("aeioutshrdln"),
    lambda: random.choice("'s't're've'm'll'd'S'T'RE"),
    lambda: random.choice("\u200d\ufe0f\u200b\u00a0\u2028\u3000\u2003\u1680\u180e\u202f\u205f\u00ad\ufffd"),
    lambda: random.choice("0123456789\u0660\u0661\u0662\u00b2\u00bd\u2167"),
    lambda: random.choice("\u2581\u0130\u0131\u017f\u00df\u1e9e\u212a\u03a3\u03c3\u03c2"),
    lambda: random.choice(["  ", "   ", "\n  ", "the ", "Hello", " world", "http://", "!!!", "...", "==="]),
]


def text(special):
    pools = random.sample(POOLS, random.randint(1, 4))
    made = "".join(random.choice(pools)() for _ in range(random.randint(1, 30)))
    if random.random() < 0.3:
        at = random.randint(0, len(made))
        made = made[:at] + random.choice(special) + made[at:]
    return made


def cases(fixture):
    folder = "../../../models" if fixture == "demo-qwen3" else ".."
    tokenizer = Tokenizer.from_file(f"{folder}/{fixture}/tokenizer.json")
    special = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    for _ in range(CASES):
        made = text(special)
        ids = tokenizer.encode(made, add_special_tokens=False).ids
        noise = [random.randrange(tokenizer.get_vocab_size() + 2) for _ in range(random.randint(0, 12))]
        yield {
            "text": made,
            "ids": ids,
            "with_special": tokenizer.encode(made).ids,
            "decoded": tokenizer.decode(ids, skip_special_tokens=False),
            "noise": noise,
            "noise_decoded": tokenizer.decode(noise, skip_special_tokens=False),
            "noise_without_special": tokenizer.decode(noise, skip_special_tokens=True),
        }


with open("random-text.json", "w", encoding="ascii") as file:
    sets = [{"fixture": fixture, "cases": list(cases(fixture))} for fixture in FIXTURES]
    json.dump({"version": f"tokenizers {tokenizers.__version__}", "sets": sets}, file, separators=(",", ":"))
    file.write("\n")
