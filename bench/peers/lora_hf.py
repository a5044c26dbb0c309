"""The same training as bench/finetune/lora.ts with Hugging Face's transformers and PEFT: the peer.

Random bfloat16 weights made on the device, SDPA attention, fused AdamW, float32 adapters under autocast. `--mode qlora`
needs bitsandbytes, `--mode dora` is PEFT's DoRA; `--checkpointing` recomputes activations, as most scripts do;
`--compile` compiles the layers.
"""

import argparse
import json
import time

import torch
import transformers
from peft import LoraConfig, get_peft_model
from peft import __version__ as peft_version
from transformers import LlamaConfig, LlamaForCausalLM

SIZES = {
    "llama3_8b": dict(vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32)
    | dict(num_attention_heads=32, num_key_value_heads=8, rope_theta=500000.0),
    "tiny": dict(vocab_size=257, hidden_size=128, intermediate_size=352, num_hidden_layers=2)
    | dict(num_attention_heads=4, num_key_value_heads=2),
}


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--mode", default="lora", choices=["lora", "dora", "qlora"])
    arguments.add_argument("--model", default="llama3_8b")
    arguments.add_argument("--batch", type=int, default=4)
    arguments.add_argument("--time", type=int, default=4096)
    arguments.add_argument("--steps", type=int, default=8)
    arguments.add_argument("--rank", type=int, default=16)
    arguments.add_argument("--checkpointing", action="store_true")
    arguments.add_argument("--compile", action="store_true")
    a = arguments.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = LlamaConfig(**SIZES[a.model], max_position_embeddings=a.time, tie_word_embeddings=False)
    config._attn_implementation = "sdpa"
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    if a.mode == "qlora":
        import bitsandbytes as bnb

        for module in list(model.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, torch.nn.Linear) and name != "lm_head":
                    four = bnb.nn.Linear4bit(
                        child.in_features,
                        child.out_features,
                        bias=False,
                        compute_dtype=torch.bfloat16,
                        quant_type="nf4",
                    )
                    four.weight = bnb.nn.Params4bit(
                        child.weight.data.cpu(), requires_grad=False, quant_type="nf4", compress_statistics=True
                    )
                    setattr(module, name, four.to(device))
        model.is_loaded_in_4bit = True
    start = time.perf_counter()
    model = get_peft_model(
        model,
        LoraConfig(
            r=a.rank,
            lora_alpha=2 * a.rank,
            target_modules="all-linear",
            use_dora=a.mode == "dora",
            task_type="CAUSAL_LM",
        ),
    )
    if device == "cuda":
        torch.cuda.synchronize()
    attach = time.perf_counter() - start
    if a.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    if a.compile:
        for layer in model.base_model.model.model.layers:
            layer.compile()
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=device == "cuda")
    seconds, losses = [], []
    for step in range(a.steps):
        generator = torch.Generator().manual_seed(step)
        ids = torch.randint(0, config.vocab_size, (a.batch, a.time), generator=generator).to(device)
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss))
        seconds.append(time.perf_counter() - start)
    timed = sorted(seconds[min(3, a.steps // 2) :])
    median = timed[len(timed) // 2]
    print(
        json.dumps(
            {
                "what": "huggingface+peft",
                "mode": a.mode,
                "model": a.model,
                "batchSize": a.batch,
                "sequenceLength": a.time,
                "checkpointing": a.checkpointing,
                "compile": a.compile,
                "steps": len(timed),
                "stepMilliseconds": median * 1000,
                "tokensPerSecond": a.batch * a.time / median,
                "attachSeconds": attach,
                "peakBytes": torch.cuda.max_memory_allocated() if device == "cuda" else None,
                "losses": [losses[0], losses[-1]],
                "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
                "versions": {
                    "torch": torch.__version__,
                    "transformers": transformers.__version__,
                    "peft": peft_version,
                },
            }
        )
    )


if __name__ == "__main__":
    main()
