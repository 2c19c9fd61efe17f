#!/usr/bin/env python3
"""Trains a miniature of FLUX's pipeline on captioned scenes of the miniature data set and writes it as diffusers does.

Needs torch 2.11.0, diffusers 0.42.0, transformers 5.23.0, tokenizers 0.23.3, safetensors 0.8.0, numpy 2.4.6, pillow
13.0.0. The scenes come from

    cargo run -p tasks --example mini_export -- --out DIR/train --split train --count 20000 --size 96 --objects 1-3
    cargo run -p tasks --example mini_export -- --out DIR/val --split val --count 1000 --size 96 --objects 1-3

and `results/mini/README.md` records the command that made the committed weights.

Two stages, each of which goes on from its last checkpoint with the same batches when it was stopped:

1. The autoencoder: 96 x 96 pixels to 24 x 24 latents of 4 channels, so that a token (2 x 2 latents) is 8 x 8 pixels.
2. The transformer, T5 and CLIP's text tower together, by flow matching: the velocity from a noised picture, its noise
   level and a caption that names one to three of its objects, some with their colours.

Flow matching alone teaches so small a network little about words in an hour. Two auxiliary heads, thrown away at the
end, read its tokens after the last dual and after the last single block: one says of every image token which share of it
the objects cover that the caption names (which it must ask the words), the other says of every word that names an
object which colour that has (which it must ask the picture, as most captions do not say it). Neither sees or shapes an
attention map; which tokens attend to which is left to the network.

In most steps half of the image tokens are left out at random, which halves the cost; the last steps see them all.
"""

import argparse
import json
import math
import platform
import shlex
import string
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import diffusers
import numpy as np
import torch
import torch.nn.functional as F
import transformers
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

from golden_clip_tokenizer import vocabulary
from mini_networks import CLASSES
from train_mini_vision import Muon, decode, pace, portable

COLOURS = "red orange yellow green teal blue purple pink white black".split()
SIZE = 96
PATCH = 8
SIDE = SIZE // PATCH
LATENTS = 4
TEXT = 24
WIDTH, HEADS = 96, 4


class Scenes:
    """Pictures (n, 96, 96, 3), classes of pixels (n, 96, 96; 0 is the background), and what is in them."""

    def __init__(self, folder, count, workers):
        self.lines = [json.loads(line) for line in (folder / "scenes.jsonl").open()][:count]
        paths = [(folder / line["file"], folder / "masks" / Path(line["file"]).name) for line in self.lines]
        with ProcessPoolExecutor(workers) as pool:
            pixels = list(pool.map(decode, paths, chunksize=256))
        self.images = np.stack([image for image, _ in pixels])
        self.masks = np.stack([mask for _, mask in pixels])

    def __len__(self):
        return len(self.lines)

    def pixels(self, index):
        """float32 (b, 3, 96, 96) from -1 to 1."""
        return torch.from_numpy(self.images[index]).permute(0, 3, 1, 2).float() / 127.5 - 1


def article(word):
    return "an" if word[0] in "aeiou" else "a"


def caption(line, rng):
    """A caption of a scene and the objects that it names."""
    objects = [line["objects"][i] for i in rng.permutation(len(line["objects"]))]
    kind = rng.random()
    if kind < 0.5:
        named = objects[:1]
        name = named[0]["class"]
        text = f"a {name}" if kind < 0.4 else name
        return (f"an {name}" if text == f"a {name}" and article(name) == "an" and rng.random() < 0.5 else text), named
    if kind < 0.55:
        texture = line["background"]
        return ["background", f"{texture} background", f"{article(texture)} {texture} background"][rng.integers(3)], []
    named = objects[: 1 + rng.integers(len(objects))]
    phrases = []
    for each in named:
        words = f"{each['colour']} {each['class']}" if rng.random() < 0.5 else each["class"]
        phrases.append(f"{article(words)} {words}")
    text = phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]
    if rng.random() < 0.4:
        texture = line["background"]
        text += f" on {article(texture)} {texture} background"
    return text, named


def t5_tokenizer(corpus, out):
    """A unigram tokenizer with the parts of the published one: the corpus' words, a few of them in two pieces, and letters."""
    split = {"▁hourglass": ("▁hour", "glass"), "▁background": ("▁back", "ground"), "▁striped": ("▁strip", "ed")}
    cut = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex("(?=,)"), "isolated"), pre_tokenizers.Metaspace()])
    counts = Counter()
    for text in corpus:
        for word, _ in cut.pre_tokenize_str(text):
            counts.update(split.get(word, (word.removeprefix("▁"),) if word == "▁," else (word,)))
    total = sum(counts.values())
    pieces = [(piece, math.log(count / total)) for piece, count in counts.most_common()]
    letters = [(letter, -15.0) for letter in ["▁", *string.ascii_letters, *".-'"] if letter not in counts]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *pieces, *letters]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    wrapped = T5TokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>", pad_token="<pad>", extra_ids=0,
        model_max_length=TEXT,
    )
    wrapped.save_pretrained(out)
    return wrapped


def clip_tokenizer(corpus, out):
    """CLIP's kind of tokenizer, with `vocab.json` and `merges.txt` as published."""
    table, merges = vocabulary("\n".join(corpus), 10_000)
    tokenizer = CLIPTokenizer(table, merges, model_max_length=TEXT)
    out.mkdir(parents=True, exist_ok=True)
    (out / "vocab.json").write_text(json.dumps(table, ensure_ascii=False))
    (out / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": TEXT}
    (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    return tokenizer


def autoencoder(**more):
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 48),
        layers_per_block=1,
        latent_channels=LATENTS,
        norm_num_groups=8,
        sample_size=SIZE,
        use_quant_conv=False,
        use_post_quant_conv=False,
        **more,
    )


def train_autoencoder(scenes, work, arguments):
    """The trained autoencoder with shift and scale of its latents in its configuration."""
    torch.manual_seed(arguments.seed)
    vae = autoencoder()
    stepper = torch.optim.AdamW(vae.parameters(), lr=2e-3, weight_decay=0.0, betas=(0.9, 0.98))
    checkpoint, first = work / "autoencoder.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        vae.load_state_dict(state["vae"])
        stepper.load_state_dict(state["stepper"])
        first = state["step"]
    started, losses = time.time(), []
    steps = arguments.autoencoder_steps
    for step in range(first, steps):
        rng = np.random.default_rng([arguments.seed, 3, step])
        pixels = scenes.pixels(rng.integers(len(scenes), size=32))
        y, x = rng.integers(0, SIZE - 48 + 1, size=2)
        pixels = pixels[:, :, y : y + 48, x : x + 48].contiguous()
        posterior = vae.encode(pixels).latent_dist
        noise = torch.from_numpy(rng.standard_normal(posterior.mean.shape, np.float32))
        answer = vae.decode(posterior.mean + posterior.std * noise).sample
        error = answer - pixels
        edges = sum((error.diff(dim=axis)).abs().mean() for axis in (2, 3))
        spread = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
        loss = error.abs().mean() + error.square().mean() + edges + 1e-4 * spread
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        stepper.param_groups[0]["lr"] = 2e-3 * pace(step, steps, 50, 0.5)
        stepper.step()
        stepper.zero_grad(set_to_none=True)
        losses.append(error.square().mean().item())
        if (step + 1) % 50 == 0 or step + 1 == steps:
            psnr = 10 * math.log10(4 / np.mean(losses))
            speed = (time.time() - started) / (step + 1 - first)
            print(f"autoencoder step {step + 1}: {psnr:.1f} dB, {speed:.2f} s a step", flush=True)
            losses = []
            state = {"vae": vae.state_dict(), "stepper": stepper.state_dict(), "step": step + 1}
            torch.save(state, checkpoint.with_suffix(".part"))
            checkpoint.with_suffix(".part").rename(checkpoint)
    # What is published, float16, is what the transformer learns from.
    vae.load_state_dict({name: tensor.half().float() for name, tensor in vae.state_dict().items()})
    return vae.eval().requires_grad_(False)


@torch.no_grad()
def latents_of(vae, scenes, file):
    """Means of the latents, float16 (n, 4, 24, 24)."""
    if not file.exists():
        parts = np.array_split(np.arange(len(scenes)), -(-len(scenes) // 64))
        means = [vae.encode(scenes.pixels(part)).latent_dist.mean.half() for part in parts]
        save_file({"latents": torch.cat(means).contiguous()}, file.with_suffix(".part"))
        file.with_suffix(".part").rename(file)
    return load_file(file)["latents"]


class Miniature(torch.nn.Module):
    """Transformer, T5 and CLIP's text tower."""

    def __init__(self, t5, clip):
        super().__init__()
        self.tokenizers = t5, clip
        self.transformer = FluxTransformer2DModel(
            in_channels=4 * LATENTS, num_layers=3, num_single_layers=3, attention_head_dim=WIDTH // HEADS,
            num_attention_heads=HEADS, joint_attention_dim=64, pooled_projection_dim=32, guidance_embeds=False,
            axes_dims_rope=(4, 10, 10),
        )
        self.t5 = T5EncoderModel(
            T5Config(
                vocab_size=len(t5), d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, dropout_rate=0.0,
                feed_forward_proj="gated-gelu", tie_word_embeddings=False,
            )
        )
        self.clip = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(clip), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                max_position_embeddings=TEXT, projection_dim=32, bos_token_id=clip.bos_token_id,
                eos_token_id=clip.eos_token_id, pad_token_id=clip.pad_token_id,
            )
        )

    def texts(self, captions):
        """(b, TEXT, 64), (b, 32), and T5's encodings."""
        t5, clip = self.tokenizers
        settings = {"padding": "max_length", "max_length": TEXT, "truncation": True}
        encoded = t5(captions, return_offsets_mapping=True, **settings)
        text = self.t5(torch.tensor(encoded["input_ids"])).last_hidden_state
        pooled = self.clip(torch.tensor(clip(captions, **settings)["input_ids"])).pooler_output
        return text, pooled, encoded

    def forward(self, tokens, ids, level, text, pooled):
        """Velocity of the tokens, and the hidden states (text, image) after the last dual and the last single block."""
        net = self.transformer
        hidden, temb = net.x_embedder(tokens), net.time_text_embed(level * 1000, pooled)
        context = net.context_embedder(text)
        rope = net.pos_embed(torch.cat([torch.zeros(TEXT, 3), ids]))
        for block in net.transformer_blocks:
            context, hidden = block(
                hidden_states=hidden, encoder_hidden_states=context, temb=temb, image_rotary_emb=rope
            )
        states = [(context, hidden)]
        for block in net.single_transformer_blocks:
            context, hidden = block(
                hidden_states=hidden, encoder_hidden_states=context, temb=temb, image_rotary_emb=rope
            )
        states.append((context, hidden))
        return net.proj_out(net.norm_out(hidden, temb)), states


class Heads(torch.nn.Module):
    """The auxiliary heads, one pair after the dual blocks and one after the single ones."""

    def __init__(self):
        super().__init__()
        self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(WIDTH) for _ in range(4))
        self.named = torch.nn.ModuleList(torch.nn.Linear(WIDTH, 1) for _ in range(2))
        self.colour = torch.nn.ModuleList(torch.nn.Linear(WIDTH, len(COLOURS)) for _ in range(2))


def pack(latents):
    """(b, 4, 24, 24) to (b, 144, 16), as FLUX packs them."""
    b = len(latents)
    latents = latents.reshape(b, LATENTS, SIDE, 2, SIDE, 2).permute(0, 2, 4, 1, 3, 5)
    return latents.reshape(b, SIDE * SIDE, 4 * LATENTS)


def image_ids():
    ids = torch.zeros(SIDE, SIDE, 3)
    ids[..., 1] += torch.arange(SIDE)[:, None]
    ids[..., 2] += torch.arange(SIDE)[None]
    return ids.reshape(-1, 3)


class Batch:
    """What one step learns from."""

    def __init__(self, scenes, latents, index, rng, share=1.0):
        self.captions, named = zip(*(caption(scenes.lines[i], rng) for i in index), strict=True)
        self.named = named
        self.tokens = pack(latents[index])
        labels = torch.from_numpy(scenes.masks[index]).long()
        told = torch.zeros(len(index), len(CLASSES) + 1)
        for row, objects in enumerate(named):
            for each in objects:
                told[row, each["label"] + 1] = 1
        covered = torch.gather(told, 1, labels.reshape(len(index), -1)).reshape(labels.shape)
        self.cover = F.avg_pool2d(covered[:, None], PATCH).reshape(len(index), -1)
        self.ids = image_ids()
        if share < 1:
            kept = torch.from_numpy(np.sort(rng.permutation(SIDE * SIDE)[: round(share * SIDE * SIDE)]))
            self.tokens, self.cover, self.ids = self.tokens[:, kept], self.cover[:, kept], self.ids[kept]
        self.noise = torch.from_numpy(rng.standard_normal(self.tokens.shape, np.float32))
        self.level = torch.from_numpy(rng.random(len(index), np.float32))

    def words(self, encoded):
        """Rows, places and colours of the last piece of every word that names an object."""
        rows, places, colours = [], [], []
        for row, (text, objects) in enumerate(zip(self.captions, self.named, strict=True)):
            for each in objects:
                end = text.index(each["class"]) + len(each["class"])
                for place, (_, stop) in enumerate(encoded["offset_mapping"][row]):
                    if stop == end:
                        rows.append(row), places.append(place), colours.append(COLOURS.index(each["colour"]))
                        break
        return rows, places, torch.tensor(colours, dtype=torch.long)


def lose(network, heads, batch):
    """The loss and its parts."""
    level = batch.level[:, None, None]
    noised = (1 - level) * batch.tokens + level * batch.noise
    text, pooled, encoded = network.texts(list(batch.captions))
    velocity, states = network(noised, batch.ids, batch.level, text, pooled)
    flow = F.mse_loss(velocity, batch.noise - batch.tokens)
    rows, places, colours = batch.words(encoded)
    named = colour = 0.0
    for part, (words, tokens) in enumerate(states):
        logits = heads.named[part](heads.norms[part](tokens))[..., 0]
        named = named + F.binary_cross_entropy_with_logits(logits, batch.cover)
        if rows:
            logits = heads.colour[part](heads.norms[part + 2](words[rows, places]))
            colour = colour + F.cross_entropy(logits, colours)
    return flow + 0.5 * named + 0.1 * colour, (flow.item(), float(named) / 2, float(colour) / 2)


def optimisers(network, heads, arguments):
    """Muon for the matrices of the transformer's blocks, AdamW for everything else."""
    parameters = list(network.named_parameters()) + list(heads.named_parameters())
    matrices = [p for name, p in parameters if "transformer_blocks." in name and p.ndim == 2]
    chosen = {id(p) for p in matrices}
    rest = [p for _, p in parameters if id(p) not in chosen]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": 0.01},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    found = [
        torch.optim.AdamW(groups, lr=arguments.rate, betas=(0.9, 0.98)),
        Muon(matrices, lr=arguments.muon_rate, weight_decay=0.01),
    ]
    for group in [group for optimiser in found for group in optimiser.param_groups]:
        group["full"] = group["lr"]
    return found


@torch.no_grad()
def evaluate(network, heads, scenes, latents, level):
    """Flow loss, error of the named tokens, colour of the words, on unseen scenes at one noise level."""
    sums = np.zeros(3)
    starts = range(0, min(len(scenes), 500), 50)
    for start in starts:
        batch = Batch(scenes, latents, np.arange(start, start + 50), np.random.default_rng([9, start]))
        batch.level[:] = level
        sums += lose(network, heads, batch)[1]
    return (sums / len(starts)).round(4).tolist()


def train_transformer(network, scenes, latents, val, val_latents, work, arguments):
    torch.manual_seed(arguments.seed)
    heads = Heads()
    steppers = optimisers(network, heads, arguments)
    checkpoint, first, seconds = work / "transformer.pt", 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        network.load_state_dict(state["network"])
        heads.load_state_dict(state["heads"])
        for stepper, saved in zip(steppers, state["steppers"], strict=True):
            stepper.load_state_dict(saved)
        first, seconds = state["step"], state["seconds"]
        print(f"goes on from step {first}", flush=True)
    per_epoch = len(scenes) // arguments.batch
    started, parts = time.time() - seconds, []
    for step in range(first, arguments.steps):
        epoch, position = divmod(step, per_epoch)
        order = np.random.default_rng([arguments.seed, 1, epoch]).permutation(len(scenes))
        rng = np.random.default_rng([arguments.seed, 2, step])
        index = order[position * arguments.batch : (position + 1) * arguments.batch]
        share = 0.5 if step < arguments.sparse * arguments.steps else 1.0
        loss, each = lose(network, heads, Batch(scenes, latents, index, rng, share))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for stepper in steppers:
            for group in stepper.param_groups:
                group["lr"] = group["full"] * pace(step, arguments.steps, 100, arguments.cooldown)
            stepper.step()
            stepper.zero_grad(set_to_none=True)
        parts.append(each)
        done = step + 1
        if done % 50 == 0:
            flow, named, colour = np.mean(parts, axis=0)
            speed = (time.time() - started) / done
            print(f"step {done}: flow {flow:.3f}, named {named:.3f}, colour {colour:.3f}, {speed:.2f} s a step", flush=True)
            parts = []
        if done % arguments.every == 0 or done == arguments.steps:
            state = {
                "network": network.state_dict(), "heads": heads.state_dict(), "step": done,
                "steppers": [stepper.state_dict() for stepper in steppers], "seconds": time.time() - started,
            }
            torch.save(state, checkpoint.with_suffix(".part"))
            checkpoint.with_suffix(".part").rename(checkpoint)
            for level in (0.25, 0.5):
                print(f"  unseen at {level}: {evaluate(network, heads, val, val_latents, level)}", flush=True)
    report = {f"flow_named_colour_at_{level}": evaluate(network, heads, val, val_latents, level) for level in (0.25, 0.5, 0.75)}
    return {**report, "seconds": round(time.time() - started)}


def rename_tower(folder, clip):
    """The hub's files have the text tower below `text_model`, which this version of transformers leaves out."""
    file = folder / "model.safetensors"
    tower = {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in load_file(file).items()}
    save_file(tower, file, metadata={"format": "pt"})
    reread = CLIPTextModel.from_pretrained(folder, dtype=torch.float16).state_dict()
    if any(not torch.equal(tensor, clip.state_dict()[name]) for name, tensor in reread.items()):
        raise SystemExit(f"{file} is not read back as it was written")


def publish(network, vae, shift, scale, out):
    """The folder as `FluxPipeline.save_pretrained` writes it; the weights in float16, under the hub's names."""
    settings = {"shift_factor": shift, "scaling_factor": scale}
    named = autoencoder(**settings)
    named.load_state_dict(vae.state_dict())
    t5, clip = network.tokenizers
    for model in (network.transformer, network.t5, network.clip, named):
        model.half()
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0), vae=named, text_encoder=network.clip, tokenizer=clip,
        text_encoder_2=network.t5, tokenizer_2=t5, transformer=network.transformer,
    )
    kept = {folder: {f.name: f.read_bytes() for f in (out / folder).iterdir()} for folder in ("tokenizer", "tokenizer_2")}
    pipeline.save_pretrained(out)
    for folder, files in kept.items():
        for file in (out / folder).iterdir():
            file.unlink()
        for name, content in files.items():
            (out / folder / name).write_bytes(content)
    rename_tower(out / "text_encoder", network.clip)
    for file in out.rglob("*.safetensors"):
        file.chmod(0o644)


def write_report(measured, sizes, vae, scenes, arguments):
    """Prints what was measured and how it was trained, and writes it where `--report` says."""
    report = {
        **measured,
        "parameters": {**sizes, "vae": sum(p.numel() for p in vae.parameters())},
        "bytes": sum(file.stat().st_size for file in arguments.out.rglob("*.safetensors")),
        "train_scenes": len(scenes),
        "steps": arguments.steps,
        "batch": arguments.batch,
        "seed": arguments.seed,
        "command": "python " + shlex.join(portable(word) for word in sys.argv),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "transformers": transformers.__version__,
            "numpy": np.__version__,
        },
    }
    print(json.dumps(report, indent=2), flush=True)
    if arguments.report:
        arguments.report.parent.mkdir(parents=True, exist_ok=True)
        arguments.report.write_text(json.dumps(report, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--train", type=Path, required=True, help="exported scenes to learn from")
    parser.add_argument("--val", type=Path, required=True, help="exported scenes of the other split")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--out", type=Path, required=True, help="the pipeline folder to write")
    parser.add_argument("--report", type=Path, help="JSON with losses, seed, versions and command")
    parser.add_argument("--scenes", type=int, default=20000, help="most scenes to read of a folder")
    parser.add_argument("--autoencoder-steps", type=int, default=700)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--muon-rate", type=float, default=2e-3)
    parser.add_argument("--sparse", type=float, default=0.7, help="share of the steps that see half of the tokens")
    parser.add_argument("--cooldown", type=float, default=0.4, help="share of the steps in which the rate falls")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--every", type=int, default=500, help="steps between checkpoints")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.disable_progress_bar()
    for folder in (arguments.work, arguments.out):
        folder.mkdir(parents=True, exist_ok=True)
    scenes, val = (Scenes(folder, arguments.scenes, arguments.threads) for folder in (arguments.train, arguments.val))
    print(f"{len(scenes)} scenes to learn from, {len(val)} unseen", flush=True)

    rng = np.random.default_rng([arguments.seed, 4])
    corpus = [caption(line, rng)[0] for line in scenes.lines[:4000]]
    t5, clip = t5_tokenizer(corpus, arguments.out / "tokenizer_2"), clip_tokenizer(corpus, arguments.out / "tokenizer")
    vae = train_autoencoder(scenes, arguments.work, arguments)
    latents = latents_of(vae, scenes, arguments.work / "train.safetensors")
    val_latents = latents_of(vae, val, arguments.work / "val.safetensors")
    shift, scale = latents.float().mean().item(), 1 / latents.float().std().item()
    latents, val_latents = ((each.float() - shift) * scale for each in (latents, val_latents))

    torch.manual_seed(arguments.seed)
    network = Miniature(t5, clip)
    sizes = {name: sum(p.numel() for p in model.parameters()) for name, model in network.named_children()}
    print(sizes, {name: len(each) for name, each in zip(("t5", "clip"), network.tokenizers, strict=True)}, flush=True)
    losses = train_transformer(network, scenes, latents, val, val_latents, arguments.work, arguments)
    publish(network, vae, shift, scale, arguments.out)
    write_report(losses, sizes, vae, scenes, arguments)


if __name__ == "__main__":
    main()
