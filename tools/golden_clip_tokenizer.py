"""Golden fixtures for the CLIP tokenizer: a small made-up vocabulary, and the ids transformers gives to nasty texts.

    pip install transformers==5.23.0 tokenizers==0.23.3
    python tools/golden_clip_tokenizer.py      # writes crates/models/tests/fixtures/clip-tokenizer/

`vocab.json` and `merges.txt` are learned from CORPUS below: 256 byte symbols, the same with `</w>`, the merges, the two
special tokens. `golden.json` holds

    texts       the texts
    variants    name, files (name: content) that lie beside the vocabulary, length, pad_id, pad_left, and per text
                [index of the text, ids], the ids without the padding

A variant whose files have a `tokenizer.json` lacks its `model` there: it is the vocabulary and the merges again. Texts
are encoded with `padding="max_length", truncation=True`; where no file gives a length, with `max_length=77`.
"""

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer, CLIPTokenizerFast

MERGES = 160
START, END = "<|startoftext|>", "<|endoftext|>"

CORPUS = """
A photo of a cat. A photo of the dog, and of two dogs that don't like the cats. It's a picture of an old house by the
sea; they're painting the door in blue and the window in white. A close-up photo of a red apple on a wooden table. The
mountain stands over the lake, the lake mirrors the mountain. I'll take the train at 10:45, we've seen the station. He'd
say that I'm late. The café is closed; naïve visitors wait there. Straße, Ärger, öl. An aerial photo of the harbour,
with ships, boats and a lighthouse. The cat's tail, the dog's ear. Many people walk in the park in the rain, with
umbrellas... What's that?! A drawing of a horse running over the meadow. A bright photo, a dark photo, a blurry photo.
猫 猫 在 桌子 上。 狗 狗 和 猫。 Кошка и собака. 🐱 🐱 🐶 ❤️ ❤️
"""

TEXTS = [
    "",
    " ",
    "\n\t \r\n",
    "a photo of a cat",
    "A PHOTO Of A Cat",
    "a photo of a cat.",
    "  a   photo\tof\n\na\r\ncat  ",
    "a\u00a0photo\u2003of\u3000a\u2028cat\u2029!\u0085?\u1680.\u202f,\u205f;",
    "a\x0bb\x0cc\x1cd\x1de\x1ef\x1fg",
    # Zero-width and other invisible characters are no white space.
    "zero\u200bwidth\u200cnon\u200djoiner\ufeffbom\u2060word\u180emongolian",
    "soft\u00adhyphen",
    "right\u200fto\u202eleft\u2066isolate",
    "nul\x00in\x01the\x02middle\x1b[31m\x7f\x80\x9f",
    "café",
    "cafe\u0301",
    "CAFE\u0301 CAFÉ",
    "naïve nai\u0308ve",
    "a\u0323\u0307 a\u0307\u0323 ạ̇",
    "Å \u212b A\u030a",
    "Ω \u2126 K \u212a",
    "ﬁne ﬂow ½ ² Ⅷ ①",
    "STRASSE Straße STRAẞE ß",
    "İstanbul ISTANBUL ıstanbul i\u0307",
    "ΌΔΟΣ ὈΔΥΣΣΕΎΣ Σ σς",
    "ǅ Ǆ ǆ ʼn",
    "ÅÄÖ åäö Ærø ŒUVRE",
    "Кошка и СОБАКА ёлка е\u0308лка",
    "猫在桌子上。狗和猫!",
    "日本語のテキスト カタカナ ｶﾀｶﾅ がか\u3099",
    "한국어 텍스트 \u1112\u1161\u11ab",
    "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22 हिन्दी क्षि \u0958",
    "العربية مَرْحَبًا עִבְרִית שׁ",
    "𝒜𝓑 𝟘𝟙 𐐀𐐨 𠀋",
    "🐱",
    "🐱🐶",
    "👍🏽 👩‍💻 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 1️⃣",
    "❤️ ❤ ❤\ufe0e",
    "cat🐱cat 🐱. 🐱's",
    "it's they're I'll we've he'd I'm don't",
    "IT'S THEY'RE I'LL WE'VE HE'D I'M DON'T",
    "it’s they’re ‘quoted’ “double”",
    "'s 're 't'd 'll've 'x ''s rock'n'roll o'clock 'sun 'table",
    "12345 3.14159 1,000,000 10:45 2nd 1st x2 a1b2c3",
    "٣٤٥ १२३ ４２ ½ ㊷",
    "!!! ??? ... ,,,;; --- ___ ### $$$ %%% ^^^ &&& ***",
    "!?!?.,.,:;:; a!?b (a)[b]{c}<d> \"e\" `f` ~g~ @h #i $j_k",
    "hello,world.this/is\\a|path:with;everything=1+1",
    "snake_case camelCase kebab-case dotted.name",
    "&amp; &lt;b&gt; &quot;x&quot; &#39;s &eacute; &nbsp;",
    "&amp;amp; <b>bold</b><br/> <!-- no -->",
    "https://example.org/a?b=c&d=%20#e user@example.org",
    "€ £ ¥ © ® ™ § ¶ † ‡ • … – — «x»",
    "± × ÷ ≤ ≥ ∞ ∑ √ ∂ ∫ ≠ ≈",
    "→ ⇒ ■ ● ★ ♥ ♪ ✓ ☃",
    "░▒▓ ┌─┐ ⠿",
    START,
    END,
    f"a{START}b",
    f"a photo {END} of a cat",
    f"{START}a photo of a cat{END}",
    f"{START}{START}{END}{END}",
    f"a {START.upper()} photo {END.title()} of a cat",
    "<|startoftext|> <|endoftext| > <| endoftext|> <|endoftext",
    f"cat{END}s 's{START}'s",
    f"  {START}  {END}  ",
    "</w> cat</w> a</w>b Ġ Ġcat",
    "!",
    "a cat! a dog!! !x!",
    "<cat-toy> a <Cat-Toy> x<cat-toy>y  <cat-toy>  !",
    "[MASK] [mask] <unk> <pad> <s> </s>",
    "a" * 100,
    "z" * 400,
    "word " * 75,
    "photo " * 74 + "cat",
    "photo " * 75 + "cat",
    "photo " * 76 + "cat dog",
    "a photo of the cat and of the dog. " * 20,
    "猫" * 90,
    "🐱" * 80,
    "1" * 300,
    "!" * 300,
    "\u0301" * 5,
    "a" + "\u0301" * 30,
    "Z\u0351\u036b\u0343\u036a\u0302A\u0349L\u0318G\u0321O\u0317",
    "\U0010ffff \ue000 \ufffd \ufffe \uffff",
    "x\u2028y\u2029z",
    "ª º ᵃ ⁿ ᴬ",
    "\u1bca \u0cf3 \u2c2f \ua7dc \U00010d4a",
    "tab\tseparated\tvalues",
    "Ŀ ŀ ĳ Ĳ ŉ",
    "ᏣᎳᎩ ꮳꮃꭹ ႠႡ Აა ⴀ",
]

# Texts in which the special tokens of a variant can show.
TELLING = [
    i for i, text in enumerate(TEXTS) if "<" in text or "!" in text or "[" in text or text in ("", "word " * 75)
]


def added(content, **flags):
    return {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": True} | flags


def typed(content, **flags):
    return {"__type": "AddedToken"} | added(content, **flags)


def variants(size):
    """Name, files beside the vocabulary, `max_length` for transformers, indices of the texts."""
    everything = list(range(len(TEXTS)))
    yield "no configuration", {}, 77, everything
    yield "as OpenAI published", {
        "tokenizer_config.json": {
            "unk_token": typed(END), "bos_token": typed(START), "eos_token": typed(END), "pad_token": END,
            "add_prefix_space": False, "errors": "replace", "do_lower_case": True, "model_max_length": 77,
            "tokenizer_class": "CLIPTokenizer",
        },
        "special_tokens_map.json": {
            "bos_token": added(START), "eos_token": added(END), "unk_token": added(END), "pad_token": END,
        },
        "config.json": {"model_type": "clip", "text_config": {"max_position_embeddings": 77}},
    }, None, TELLING
    yield "normalised, pad as well", {
        "tokenizer_config.json": {"model_max_length": 77},
        "special_tokens_map.json": {
            "bos_token": added(START), "eos_token": added(END), "unk_token": added(END), "pad_token": added(END),
        },
    }, None, TELLING
    yield "pad is an exclamation mark", {
        "tokenizer_config.json": {
            "bos_token": typed(START), "eos_token": typed(END), "unk_token": typed(END), "pad_token": "!",
            "model_max_length": 1000000000000000019884624838656,
        },
        "special_tokens_map.json": {
            "bos_token": added(START), "eos_token": added(END), "unk_token": added(END), "pad_token": "!",
        },
        "config.json": {"max_position_embeddings": 24},
    }, 24, TELLING
    yield "added tokens decoder", {
        "tokenizer_config.json": {
            "added_tokens_decoder": {
                "0": added("!", normalized=False, special=True),
                str(size - 2): added(START, normalized=True, special=True),
                str(size - 1): added(END, normalized=False, special=True),
                str(size): added("<cat-toy>", lstrip=True, rstrip=True, special=False),
                str(size + 1): added("[MASK]", single_word=True, normalized=False, special=False),
            },
            "bos_token": START, "eos_token": END, "pad_token": "!", "unk_token": END, "extra_special_tokens": {},
            "model_max_length": 40, "additional_special_tokens": ["<cat-toy>"],
        },
        # Not read, as there is a decoder.
        "special_tokens_map.json": {"pad_token": "<nowhere>"},
        "config.json": {"text_config": {"max_position_embeddings": 77}},
    }, None, TELLING
    yield "older list of added tokens", {
        "added_tokens.json": {"<cat-toy>": size, "[MASK]": size + 1},
        "tokenizer_config.json": {"model_max_length": 20},
        "special_tokens_map.json": {"additional_special_tokens": ["[MASK]"], "unk_token": END},
    }, None, TELLING
    yield "cut and padded on the left", {
        "tokenizer_config.json": {"model_max_length": 16, "padding_side": "left", "truncation_side": "left"},
    }, None, TELLING
    yield "special tokens in a text are text", {
        "tokenizer_config.json": {"model_max_length": 77, "split_special_tokens": True},
    }, None, TELLING
    yield "tokenizer.json", {
        "tokenizer.json": {
            "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "pre_tokenizer": None,
            "post_processor": None, "decoder": None,
            "added_tokens": [
                {"id": size - 2} | added(START, special=True),
                {"id": size - 1} | added(END, normalized=False, special=True),
            ],
        },
        "tokenizer_config.json": {"model_max_length": 77},
    }, None, TELLING


def learn(words, most):
    """At most that many merges of a byte-level BPE: the most frequent pair first, ties by the symbols."""
    words = {(*word[:-1], word[-1] + "</w>"): count for word, count in words.items()}
    merges = []
    while len(merges) < most:
        pairs = Counter()
        for word, count in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        merged = Counter()
        for word, count in words.items():
            out, i = [], 0
            while i < len(word):
                step = 2 if word[i:i + 2] == best else 1
                out.append("".join(word[i:i + step]))
                i += step
            merged[tuple(out)] += count
        words = merged
    return merges


def vocabulary(corpus, most):
    """Ids by token, and the merges, of a CLIP tokenizer that is learned from a text."""
    symbols = sorted(ByteLevel.alphabet())
    symbols.remove("!")
    symbols.insert(0, "!")
    base = symbols + [symbol + "</w>" for symbol in symbols]
    backend = CLIPTokenizer({token: i for i, token in enumerate([*base, START, END])}, []).backend_tokenizer
    split = backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(corpus))
    merges = learn(Counter(word for word, _ in split), most)
    tokens = base + ["".join(pair) for pair in merges] + [START, END]
    assert len(set(tokens)) == len(tokens)
    return {token: i for i, token in enumerate(tokens)}, merges


def encode(folder, max_length):
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    fast = CLIPTokenizerFast.from_pretrained(folder)

    def ids(text):
        out = tokenizer(text, padding="max_length", truncation=True, max_length=max_length)["input_ids"]
        assert out == fast(text, padding="max_length", truncation=True, max_length=max_length)["input_ids"], text
        return out

    return tokenizer, ids


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    default = Path(__file__).parent.parent / "crates/models/tests/fixtures/clip-tokenizer"
    parser.add_argument("--out", type=Path, default=default)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    vocab, merges = vocabulary(CORPUS, MERGES)
    (out / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False, separators=(",", ":")) + "\n")
    (out / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))

    golden = []
    for name, files, max_length, indices in variants(len(vocab)):
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            for file in ("vocab.json", "merges.txt"):
                (folder / file).write_text((out / file).read_text())
            for file, content in files.items():
                if file == "tokenizer.json":
                    model = {"type": "BPE", "vocab": vocab, "merges": merges, "end_of_word_suffix": "</w>"}
                    content = content | {"model": model}
                (folder / file).write_text(json.dumps(content))
            tokenizer, ids = encode(folder, max_length)
            pad, left = tokenizer.pad_token_id, tokenizer.padding_side == "left"
            encoded = []
            for i in indices:
                sequence = ids(TEXTS[i])
                length = len(sequence)
                side = 0 if left else -1
                while sequence and sequence[side] == pad:
                    sequence.pop(side)
                encoded.append([i, sequence])
        golden.append(dict(
            name=name, files=files, length=length, pad_id=pad, pad_left=left, end_of_text=tokenizer.eos_token_id,
            encoded=encoded,
        ))
        print(f"{name}: {len(encoded)} texts of {length}")
    lines = ",\n".join(json.dumps(variant, ensure_ascii=True, separators=(",", ":")) for variant in golden)
    texts = json.dumps(TEXTS, ensure_ascii=True, indent=0)
    (out / "golden.json").write_text(f'{{"texts": {texts},\n"variants": [\n{lines}\n]}}\n')
    size = sum(file.stat().st_size for file in out.iterdir())
    print(f"{len(TEXTS)} texts, {size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
