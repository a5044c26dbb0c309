"""The training of bench/vision/train.ts in PyTorch with transformers' models: images/s, eager and with torch.compile.

usage: vision_torch.py [--model vit_base|clip_base_32] [--batch 256] [--steps 30] [--tiny]

BF16 autocast, fused AdamW where there is a GPU, pictures that stay on the device. A line of JSON for each.
"""

import argparse
import json
import time

import torch
import transformers as hf

SIZES = {"vit_base": 16, "vit_base_32": 32}


def build(name: str, tiny: bool) -> torch.nn.Module:
    small = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    if name == "clip_base_32":
        if not tiny:
            return hf.CLIPModel(hf.CLIPConfig())
        text = small | {"vocab_size": 100, "max_position_embeddings": 16, "eos_token_id": 2}
        return hf.CLIPModel(hf.CLIPConfig(text_config=text, vision_config=small | {"image_size": 32, "patch_size": 8}))
    if tiny:
        return hf.ViTForImageClassification(hf.ViTConfig(**small, image_size=32, patch_size=8, num_labels=10))
    return hf.ViTForImageClassification(hf.ViTConfig(patch_size=SIZES[name], num_labels=1000))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="vit_base", choices=[*SIZES, "clip_base_32"])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    side = 32 if args.tiny else 224
    pixels = torch.randint(0, 256, (args.batch, 3, side, side), dtype=torch.uint8, device=device)
    labels = torch.randint(0, 10, (args.batch,), device=device)
    tokens = torch.randint(0, 100, (args.batch, 16 if args.tiny else 77), device=device)
    for mode in ("eager", "compiled"):
        model = build(args.model, args.tiny).to(device).train()
        run = torch.compile(model) if mode == "compiled" else model
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, fused=device == "cuda")
        times = []
        for _ in range(args.steps):
            begun = time.perf_counter()
            with torch.autocast(device, torch.bfloat16):
                x = (pixels.float() / 255 - 0.5) / 0.5
                clip = args.model.startswith("clip")
                given = {"input_ids": tokens, "return_loss": True} if clip else {"labels": labels}
                loss = run(pixel_values=x, **given).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if device == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - begun)
        seconds = sorted(times[args.steps // 2 :])[args.steps // 4]
        found = {"peer": f"torch {torch.__version__} {mode}", "secondsPerStep": seconds}
        print(json.dumps(found | {"imagesPerSecond": args.batch / seconds, "model": args.model, "device": device}))


if __name__ == "__main__":
    main()
