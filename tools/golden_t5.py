"""Golden fixtures for the T5 encoder and its tokenizer: tiny random networks built by transformers, and a tiny unigram
vocabulary learned by tokenizers.

    pip install torch==2.11.0 transformers==5.23.0 safetensors==0.8.0 sentencepiece==0.2.3
    python tools/golden_t5.py             # writes crates/models/tests/fixtures/t5-*/
    python tools/golden_t5.py t5-forge    # writes this network alone, with the tokenizer that is there

`t5-tokenizer/tokenizer.json` has the parts of the one published with FLUX: a table of replaced characters (here NFKC for
the characters of TEXTS, in the published file for all), spaces, `▁`, unigram pieces. `golden.json` holds

    texts       the texts
    variants    name, files (name: what is changed in it or, but for tokenizer.json, all of it), asked (the length that is
                asked for, if any), length, pad_id, and the ids of each text without padding
    words       text, word, indices of its tokens

`t5-gated/`, `t5-relu/` and `t5-forge/` are model directories as transformers saves them plus `golden.safetensors`:

    ids                [2, n]
    mask               [2, n]              if there is one
    embeddings         [2, n, d]
    block.{i}.logits   [2, heads, n, n]    what enters the softmax
    block.{i}.probs    [2, heads, n, n]
    block.{i}.hidden   [2, n, d]           what the block returns
    encoded            [2, n, d]           after the last layer norm
    encoded.bf16       [2, n, d]           the same computed in bfloat16
    encoded.f16        [2, n, d]           and in float16
"""

import argparse
import io
import json
import math
import shutil
import tempfile
import unicodedata
from pathlib import Path

import sentencepiece
import torch
from golden_clip_tokenizer import CORPUS, TEXTS as AWKWARD
from safetensors.torch import load_file, save_file
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import T5Config, T5EncoderModel, T5Tokenizer

FIXTURES = Path(__file__).parent.parent / "crates/models/tests/fixtures"

TEXTS = AWKWARD + [
    "a photo of a cat</s>",
    "</s>",
    "a</s>cat <pad> dog<pad>",
    "<extra_id_0> cat <extra_id_1>dog<extra_id_7>",
    "▁ a▁cat ▁▁dog▁",
    "A black dog wearing a bow tie",
]

# A text, a word as it stands there, and how it is asked for.
WORDS = [
    ("a photo of a cat", "cat", "cat"),
    ("a Photo of a CAT, cat", "CAT", "cat"),
    ("two catalogues and the Cat's tail", "Cat", "cat"),
    ("a picture of the lighthouse.", "lighthouse", "Lighthouse"),
    ("ships in  the\tharbour", "harbour", "harbour"),
    ("many old fire\n engines", "fire\n engines", "fire engines"),
    ("the cafe\u0301 in the rain", "cafe\u0301", "cafe\u0301"),
    ("猫 在 桌子 上", "桌子", "桌子"),
    ("a \ufb01ne blue door", "door", "door"),
]

NETWORKS = {
    # As T5 v1.1: gated, the default classes of positions; heads narrower than the token, shards, bf16 storage.
    "t5-gated": dict(
        config=dict(
            d_model=24, d_kv=8, d_ff=40, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu",
            tie_word_embeddings=False,
        ),
        length=16,
        mask=False,
        dtype=torch.bfloat16,
        shard="6KB",
    ),
    # As the first T5: relu, other classes of positions and eps, heads wider than the token, an embedding stored twice.
    "t5-relu": dict(
        config=dict(
            d_model=16, d_kv=6, d_ff=24, num_layers=3, num_heads=3, feed_forward_proj="relu", layer_norm_epsilon=1e-4,
            relative_attention_num_buckets=10, relative_attention_max_distance=9,
        ),
        length=13,
        mask=True,
        dtype=torch.float32,
        shard="1GB",
    ),
    # A configuration as FLUX folders of other tools have it: the MLP is named in parts, `feed_forward_proj` is absent.
    "t5-forge": dict(
        config=dict(
            d_model=12, d_kv=4, d_ff=20, num_layers=2, num_heads=2, is_gated_act=True, dense_act_fn="gelu_pytorch_tanh",
            tie_word_embeddings=False,
        ),
        length=10,
        mask=False,
        dtype=torch.float32,
        shard="1GB",
        seed=1,
        left_out=("feed_forward_proj", "architectures", "dtype", "transformers_version"),
    ),
}

# Configurations of the MLP, read by T5Config; `t5-forge/configs.json` has what it makes of them.
MLP_CONFIGS = [
    {},
    {"feed_forward_proj": "relu"},
    {"feed_forward_proj": "gated-gelu"},
    {"feed_forward_proj": "gated-silu"},
    {"feed_forward_proj": "gelu"},
    {"feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu_new", "is_gated_act": True},
    {"feed_forward_proj": "gated-gelu", "dense_act_fn": "relu", "is_gated_act": False},
    {"feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu"},
    {"feed_forward_proj": "relu", "is_gated_act": True},
    {"is_gated_act": True},
    {"is_gated_act": None, "feed_forward_proj": "gated-gelu"},
    {"dense_act_fn": "gelu"},
    {"is_gated_act": True, "dense_act_fn": "gelu_pytorch_tanh"},
    # Refused by transformers, at the latest when the network is built.
    {"feed_forward_proj": None},
    {"feed_forward_proj": "gelu-new"},
    {"feed_forward_proj": "gated-gelu-new"},
    {"dense_act_fn": None},
    {"dense_act_fn": "mish-mash"},
]

PROMPTS = ["A photo of a cat, and of two dogs", "the lake"]


def character_table():
    """What sentencepiece compiles from rules for the characters in TEXTS: NFKC, white space to a space, no controls."""
    text = "".join(TEXTS) + "".join(text for text, _, _ in WORDS)
    pieces = set(text) | {a + b for a, b in zip(text, text[1:]) if unicodedata.combining(b)}
    rules = {}
    for piece in pieces - {"\x00"}:
        if piece.isspace() or piece in "\u200b\ufeff":
            rules[piece] = " "
        elif unicodedata.category(piece[0]) == "Cc":
            rules[piece] = ""
        else:
            rules[piece] = unicodedata.normalize("NFKC", piece)
    codes = lambda piece: " ".join(f"{ord(c):X}" for c in piece)
    lines = [f"{codes(a)}\t{codes(b)}\n" for a, b in sorted(rules.items()) if a != b]
    model = io.BytesIO()
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as file:
        file.writelines(lines)
        file.flush()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS.strip().split("\n")), model_writer=model, vocab_size=200,
            hard_vocab_limit=False, normalization_rule_tsv=file.name, minloglevel=2,
        )
    parsed = sentencepiece_model_pb2.ModelProto()
    parsed.ParseFromString(model.getvalue())
    return parsed.normalizer_spec.precompiled_charsmap


def learn():
    """A tokenizer as FLUX publishes it."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Precompiled(character_table()),
        normalizers.Strip(left=False, right=True),
        normalizers.Replace(Regex(" {2,}"), "▁"),
    ])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=180, special_tokens=special, unk_token="<unk>", show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS.strip().split("\n"), trainer)
    # Sentinels end the vocabulary, the first of them last.
    description = json.loads(tokenizer.to_str())
    sentinels = ["<extra_id_1>", "<extra_id_0>"]
    vocab = [[piece, round(score, 4)] for piece, score in description["model"]["vocab"]]
    description["model"]["vocab"] = vocab + [[piece, 0.0] for piece in sentinels]
    tokenizer = Tokenizer.from_str(json.dumps(description))
    tokenizer.add_special_tokens(special + sentinels)
    tokenizer.post_processor = processors.TemplateProcessing(single=["$A", "</s>"], special_tokens=[("</s>", 1)])
    return tokenizer


def configuration(**settings):
    return {
        "tokenizer_class": "T5Tokenizer", "extra_ids": 2, "additional_special_tokens": ["<extra_id_0>", "<extra_id_1>"],
        "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>",
    } | settings


def variants():
    """Name, changed files, length that is asked for."""
    yield "as published", {"tokenizer_config.json": configuration(model_max_length=40)}, None
    yield "shorter than the greatest length", {"tokenizer_config.json": configuration(model_max_length=512)}, 12
    flagged = {"__type": "AddedToken", "content": "</s>", "lstrip": False, "normalized": False, "special": True}
    yield "as transformers 5 saves it", {
        "tokenizer.json": {
            "normalizer": "table only",
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "WhitespaceSplit"},
                    {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
                ],
            },
            "post_processor": None,
            "truncation": {"max_length": 7, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        },
        "tokenizer_config.json": configuration(model_max_length=1e30, eos_token=flagged),
    }, 24


def tokenizer_fixture():
    out = FIXTURES / "t5-tokenizer"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    published = learn()
    description = json.loads(published.to_str())
    (out / "tokenizer.json").write_text(json.dumps(description, ensure_ascii=False, separators=(",", ":")) + "\n")
    golden = []
    for name, files, asked in variants():
        changed = files.get("tokenizer.json", {})
        if changed.get("normalizer") == "table only":
            changed["normalizer"] = description["normalizer"]["normalizers"][0]
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            (folder / "tokenizer.json").write_text(json.dumps(description | changed))
            (folder / "tokenizer_config.json").write_text(json.dumps(files["tokenizer_config.json"]))
            tokenizer = T5Tokenizer.from_pretrained(folder)
        length = asked or tokenizer.model_max_length
        encoded = []
        for text in TEXTS:
            ids = tokenizer(text, padding="max_length", truncation=True, max_length=length)["input_ids"]
            assert len(ids) == length
            while ids and ids[-1] == tokenizer.pad_token_id:
                ids.pop()
            whole = published.encode(text).ids
            whole = whole if len(whole) <= length else whole[:length - 1] + [1]
            if "▁" in text and not changed:
                # T5Tokenizer of transformers 5 cuts at spaces by itself, whatever the file says.
                ids = whole
            assert ids == whole or "▁" in text, f"the file and transformers differ on {text!r}"
            encoded.append(ids)
        golden.append(dict(
            name=name, files=files, asked=asked, length=length, pad_id=tokenizer.pad_token_id, encoded=encoded,
        ))
    words = []
    for text, place, word in WORDS:
        encoding = published.encode(text)
        start = text.index(place)
        places = [at for at in range(start, start + len(place)) if not text[at].isspace()]
        tokens = sorted({encoding.char_to_token(at) for at in places} - {None})
        print(f"{word}: {[encoding.tokens[token] for token in tokens]}")
        words.append([text, word, tokens])
    lines = ",\n".join(json.dumps(variant, separators=(",", ":")) for variant in golden)
    texts = json.dumps(TEXTS, indent=0)
    (out / "golden.json").write_text(
        f'{{"texts": {texts},\n"variants": [\n{lines}\n],\n"words": {json.dumps(words, indent=0)}}}\n'
    )
    return published


def randomise(model, generator):
    """Weights far from the initial ones, so that no stage is trivially right."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1:
                parameter.copy_(1 + 0.2 * noise)
            elif "relative_attention_bias" in name or "shared" in name:
                parameter.copy_(noise)
            else:
                # Without 1/√d the products of queries and keys must be smaller themselves.
                size = 0.7 if name.endswith((".q.weight", ".k.weight")) else 1.2
                parameter.copy_(size * noise / math.sqrt(parameter.shape[1]))


def stages(model, ids, mask):
    golden = {"ids": ids} | ({} if mask is None else {"mask": mask})
    hidden = torch.zeros(ids.shape) if mask is None else torch.zeros(ids.shape).masked_fill(mask == 0, -math.inf)
    bias = []

    def watch_block(i):
        def hook(module, args, kwargs, output):
            if i == 0:
                golden["embeddings"] = args[0] if args else kwargs["hidden_states"]
            golden[f"block.{i}.hidden"] = output[0]
        return hook

    def watch_attention(i):
        def hook(module, args, kwargs, output):
            x = args[0] if args else kwargs["hidden_states"]
            split = lambda y: y.view(*y.shape[:2], module.n_heads, -1).transpose(1, 2)
            q, k = split(module.q(x)), split(module.k(x))
            bias.append(output[1])
            golden[f"block.{i}.logits"] = q @ k.transpose(2, 3) + bias[0] + hidden[:, None, None]
            golden[f"block.{i}.probs"] = output[2]
        return hook

    for i, block in enumerate(model.encoder.block):
        block.register_forward_hook(watch_block(i), with_kwargs=True)
        block.layer[0].SelfAttention.register_forward_hook(watch_attention(i), with_kwargs=True)
    with torch.no_grad():
        golden["encoded"] = model(input_ids=ids, attention_mask=mask).last_hidden_state
    for i in range(len(model.encoder.block)):
        check = golden[f"block.{i}.logits"].softmax(-1)
        assert torch.allclose(check, golden[f"block.{i}.probs"], atol=1e-6), f"block {i}: not the logits of these probs"
    return golden


def network_fixture(name, tokenizer, generator):
    spec, out = NETWORKS[name], FIXTURES / name
    shutil.rmtree(out, ignore_errors=True)
    model = T5EncoderModel(T5Config(vocab_size=tokenizer.get_vocab_size() + 3, **spec["config"]))
    randomise(model, generator)
    model.to(spec["dtype"]).save_pretrained(out, max_shard_size=spec["shard"])
    if (out / "model.safetensors").exists():
        tensors = load_file(out / "model.safetensors")
        tensors["encoder.embed_tokens.weight"] = tensors["shared.weight"].clone()
        save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    if "left_out" in spec:
        config = json.loads((out / "config.json").read_text())
        config = {key: value for key, value in config.items() if key not in spec["left_out"]}
        (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    n = spec["length"]
    rows = [tokenizer.encode(prompt).ids for prompt in PROMPTS]
    rows = [row[:n - 1] + [1] if len(row) > n else row for row in rows]
    ids = torch.tensor([row + [0] * (n - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (n - len(row)) for row in rows]) if spec["mask"] else None

    def load(dtype):
        return T5EncoderModel.from_pretrained(out, dtype=dtype, attn_implementation="eager").eval()

    golden = stages(load(torch.float32), ids, mask)
    for kind, dtype in (("bf16", torch.bfloat16), ("f16", torch.float16)):
        with torch.no_grad():
            golden[f"encoded.{kind}"] = load(dtype)(input_ids=ids, attention_mask=mask).last_hidden_state
    golden = {key: value.float().contiguous().clone() for key, value in golden.items()}
    save_file(golden, out / "golden.safetensors")
    noise = {k: float((golden[f"encoded.{k}"] - golden["encoded"]).abs().max()) for k in ("bf16", "f16")}
    largest = max(float(golden[f"block.{i}.probs"].amax()) for i in range(spec["config"]["num_layers"]))
    print(f"{name}: noise {noise}, largest probability {largest:.2f}, |encoded| {golden['encoded'].abs().max():.1f}")


def mlp_configs():
    """What T5Config makes of MLP_CONFIGS, and whether the network can be built."""
    sizes = {"model_type": "t5", "vocab_size": 4, "d_model": 4, "d_kv": 2, "d_ff": 4, "num_layers": 1, "num_heads": 2}
    rows = []
    for config in MLP_CONFIGS:
        try:
            mlp = T5EncoderModel(T5Config.from_dict(sizes | config)).encoder.block[0].layer[-1].DenseReluDense
        except Exception:  # of many kinds
            rows.append({"config": config, "refused": True})
            continue
        x = torch.linspace(-3, 3, 7)
        rows.append({"config": config, "gated": hasattr(mlp, "wi_0"), "activated": mlp.act(x).tolist()})
    rows = ",\n ".join(json.dumps(row) for row in rows)
    (FIXTURES / "t5-forge" / "configs.json").write_text(f"[\n {rows}\n]\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    names = parser.parse_args().names
    published = FIXTURES / "t5-tokenizer" / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(published)) if names else tokenizer_fixture()
    generator = torch.Generator().manual_seed(0)
    for name in names or NETWORKS:
        seed = NETWORKS[name].get("seed")
        network_fixture(name, tokenizer, generator if seed is None else torch.Generator().manual_seed(seed))
    if not names or "t5-forge" in names:
        mlp_configs()
    for folder in ("t5-tokenizer", *NETWORKS):
        size = sum(file.stat().st_size for file in (FIXTURES / folder).iterdir())
        print(f"{folder}: {size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
