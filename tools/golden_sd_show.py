"""Golden fixture of `tokenrank show` for pipelines of Stable Diffusion: chains of self-attention and walks from a word.

    pip install torch==2.11.0 diffusers==0.42.0 transformers==5.23.0 safetensors==0.8.0 pillow
    python tools/golden_sd_show.py     # writes crates/models/tests/fixtures/sd-pipeline/show.safetensors

diffusers runs the random pipeline of `golden_sd_pipeline.py` on a picture and a prompt, without noise, and the queries and
keys of every attention are kept. The rest is NumPy in float64. For each grid of image tokens, the finest first:

    GRID.lambda2             [layers, heads]   second largest modulus of the dense eigenvalues of self-attention (attn1)
    GRID.WORD.start          [n]               attention of the image tokens to the word, mean of the heads of attn2 and of the
                                               word's tokens, with sum 1; the tokens of a word are those of its characters
    GRID.WORD.forward        [bounces, n]      walk in the mean of attn1 over layers and heads with teleport, row by row
    GRID.WORD.backward       [bounces, n]      walk in the reversal of the teleporting chain
    GRID.incoming            [n]               steady state of the forward chain, a dense eigenvector
"""

import math
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import StableDiffusionPipeline
from golden_sd_pipeline import FIXTURES, FOLDER, SIZE
from PIL import Image
from safetensors.numpy import save_file
from transformers import AutoTokenizer

PICTURE = FIXTURES / "vit-resized/picture.png"
PROMPT = "a photo of a lighthouse"
WORDS = ["photo", "lighthouse"]
TIMESTEP, ALPHA, BOUNCES = 300, 0.99, 3


def maps_of(unet, arguments):
    """The maps of every attention layer by its path, [heads, queries, keys] in float64, of one pass."""
    seen, maps = [], {}
    kernel = F.scaled_dot_product_attention

    def attention(query, key, value, *args, **kwargs):
        logits = query.double() @ key.double().transpose(-2, -1) / math.sqrt(query.shape[-1])
        seen.append(logits.softmax(-1))
        output = kernel(query, key, value, *args, **kwargs)
        assert torch.allclose((seen[-1] @ value.double()).float(), output, atol=1e-5), "these are not the maps of this output"
        return output

    handles = []
    for name, module in unet.named_modules():
        if name.endswith(("attn1", "attn2")):
            keep = lambda module, args, output, name=name: maps.__setitem__(name, seen.pop()[0].numpy())
            handles.append(module.register_forward_hook(keep))
    with torch.no_grad(), mock.patch.object(F, "scaled_dot_product_attention", attention):
        unet(**arguments)
    for handle in handles:
        handle.remove()
    assert not seen, "an attention outside attn1 and attn2"
    return maps


def tokens_of(tokenizer, word):
    offsets = tokenizer(PROMPT, return_offsets_mapping=True)["offset_mapping"]
    first = PROMPT.index(word)
    return [i for i, (start, end) in enumerate(offsets) if start < first + len(word) and end > first]


def main():
    torch.set_num_threads(1)
    pipeline = StableDiffusionPipeline.from_pretrained(FOLDER, torch_dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(FOLDER / "tokenizer", use_fast=True)
    picture = Image.open(PICTURE).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        latents = pipeline.vae.encode(pixels).latent_dist.mode() * pipeline.vae.config.scaling_factor
        text, _ = pipeline.encode_prompt([PROMPT], "cpu", 1, False)
    arguments = {"sample": latents, "timestep": TIMESTEP, "encoder_hidden_states": text}
    maps = maps_of(pipeline.unet, arguments)
    golden = {}
    for n in sorted({map.shape[1] for map in maps.values()}, reverse=True):
        grid = f"{math.isqrt(n)}x{math.isqrt(n)}"
        # In the order of the pass: down, middle, up.
        among = [map for name, map in maps.items() if name.endswith("attn1") and map.shape[1] == n]
        across = [map for name, map in maps.items() if name.endswith("attn2") and map.shape[1] == n]
        moduli = [[np.sort(np.abs(np.linalg.eigvals(head)))[-2] for head in layer] for layer in among]
        golden[f"{grid}.lambda2"] = np.array(moduli)
        chain = ALPHA * np.mean([layer.mean(0) for layer in among], 0) + (1 - ALPHA) / n
        values, vectors = np.linalg.eig(chain.T)
        steady = np.real(vectors[:, np.argmax(np.real(values))])
        golden[f"{grid}.incoming"] = steady / steady.sum()
        for word in WORDS:
            tokens = tokens_of(tokenizer, word)
            start = np.concatenate(across).mean(0)[:, tokens].mean(1)
            start /= start.sum()
            golden[f"{grid}.{word}.start"] = start
            forward, backward = [start], [start]
            for _ in range(BOUNCES):
                forward.append(forward[-1] @ chain)
                backward.append(chain @ (backward[-1] / chain.sum(0)))
            golden[f"{grid}.{word}.forward"] = np.array(forward[1:])
            golden[f"{grid}.{word}.backward"] = np.array(backward[1:])
            print(f"{grid} {word}: tokens {tokens}, start from {n * start.min():.3f} to {n * start.max():.3f} × uniform,"
                  f" after a step {n * forward[1].min():.3f} to {n * forward[1].max():.3f}")
        print(f"{grid}: {len(among)} layers, λ₂ {golden[f'{grid}.lambda2'].min():.3f} to {golden[f'{grid}.lambda2'].max():.3f}")
    golden = {name: np.ascontiguousarray(value, np.float64) for name, value in golden.items()}
    save_file(golden, FOLDER / "show.safetensors")
    (FOLDER / "show.safetensors").chmod(0o644)


if __name__ == "__main__":
    main()
