"""Trains and encodes with Hugging Face's `tokenizers`, one thread. Reads texts from argv[1] (a JSON array)."""

import json
import os
import sys
import time
from importlib.metadata import version

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        texts = json.load(file)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=int(sys.argv[2]),
        min_frequency=2,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    started = time.process_time()
    tokenizer.train_from_iterator(texts, trainer)
    trained = time.process_time()
    tokens = sum(len(tokenizer.encode(text).ids) + 1 for text in texts)
    encoded = time.process_time()
    result = {
        "tokenizers": version("tokenizers"),
        "train_cpu_seconds": round(trained - started, 2),
        "encode_cpu_seconds": round(encoded - trained, 2),
        "tokens": tokens,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
