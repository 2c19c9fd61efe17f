"""The networks that `train_mini_vision.py` trains: one class an architecture, each built with transformers and written as the
hub serves its kind.

All read 64 x 64 pixels in patches of 8 and have 5 layers of width 64 with 4 heads. What differs is what differs between
the published networks: norms, biases, activations, registers, the scaling of layers, what the classes are read from,
and the mean and deviation that pixels are normalised with.
"""

import json

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import (
    BitImageProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTokenizer,
    Dinov2Config,
    Dinov2ForImageClassification,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
    ViTModel,
)

from golden_clip_tokenizer import vocabulary

SIZE = 64
PATCH = 8
WIDTH = 64
LAYERS = 5
HEADS = 4
MLP = 128
CLASSES = "circle square triangle star cross ring heart crescent arrow hourglass".split()
NAMES = {"id2label": dict(enumerate(CLASSES)), "label2id": {name: label for label, name in enumerate(CLASSES)}}

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
CLIP = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
HALF = ([0.5] * 3, [0.5] * 3)


class Network(torch.nn.Module):
    """What training needs of an architecture. `special` tokens come first and are never removed."""

    special = 1
    statistics = IMAGENET
    # A tensor that the published folder must have: transformers may rename modules, the hub's names stay.
    witness = ""

    def normalise(self, images):
        """uint8 (b, h, w, 3) to float32 (b, 3, h, w), as the image processor does it."""
        mean, std = (torch.tensor(values)[:, None, None] for values in self.statistics)
        return (images.permute(0, 3, 1, 2).float() / 255 - mean) / std

    def tokens(self, pixels):
        """Pixels (b, 3, h, w) to what the first layer sees (b, special + patches, width)."""
        raise NotImplementedError

    def layers(self):
        """The layers, each a function of (b, tokens, width)."""
        raise NotImplementedError

    def norm(self, hidden):
        """The layer norm after the last layer."""
        raise NotImplementedError

    def logits(self, states):
        """Classes (b, 10) from the hidden states after every layer."""
        raise NotImplementedError

    def draw_captions(self, rng=None):
        """Chooses what a network that reads captions is given next: at random, or the first template."""

    def loss(self, logits, labels):
        """The lesson of the image's label."""
        return F.cross_entropy(logits, labels, label_smoothing=0.05)

    def processor(self):
        """The image processor that is published beside the weights."""
        raise NotImplementedError

    def publish(self, out):
        """Writes the folder; the weights in float16."""
        out.mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(out)
        weights = out / "model.safetensors"
        tensors = {name: tensor.half().contiguous() for name, tensor in load_file(weights).items()}
        if self.witness not in tensors:
            raise SystemExit(f"{weights} has no tensor {self.witness}: this version of transformers saves other names")
        save_file(tensors, weights, metadata={"format": "pt"})
        weights.chmod(0o644)
        config = json.loads((out / "config.json").read_text())
        config["dtype"] = "float16"
        (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        self.processor().save_pretrained(out)

    def reload(self, out):
        """Takes the weights of a published folder, in float32, as a reader of it gets them."""
        self.model = type(self.model).from_pretrained(out, dtype=torch.float32)


class Vit(Network):
    """`google/vit-*`: classes from CLS."""

    statistics = HALF
    witness = "vit.encoder.layer.0.attention.attention.query.weight"

    def __init__(self):
        super().__init__()
        self.model = ViTForImageClassification(vit_config(**NAMES))

    def tokens(self, pixels):
        return self.model.vit.embeddings(pixels)

    def layers(self):
        return [lambda hidden, layer=layer: layer(hidden, None) for layer in self.model.vit.layers]

    def norm(self, hidden):
        return self.model.vit.layernorm(hidden)

    def logits(self, states):
        return self.model.classifier(self.norm(states[-1][:, 0]))

    def processor(self):
        return ViTImageProcessor(size={"height": SIZE, "width": SIZE}, resample=3, **statistics(self))


class Dino(Network):
    """`facebook/dino-vits*`: a bare ViT, and beside it a linear head on CLS of the last four layers, normed."""

    witness = "encoder.layer.0.attention.attention.query.weight"

    def __init__(self):
        super().__init__()
        self.model = ViTModel(vit_config(layer_norm_eps=1e-6), add_pooling_layer=False)
        self.head = torch.nn.Linear(4 * WIDTH, len(CLASSES))

    def tokens(self, pixels):
        return self.model.embeddings(pixels)

    def layers(self):
        return [lambda hidden, layer=layer: layer(hidden, None) for layer in self.model.layers]

    def norm(self, hidden):
        return self.model.layernorm(hidden)

    def logits(self, states):
        return self.head(torch.cat([self.norm(state[:, 0]) for state in states[-4:]], -1))

    def processor(self):
        return ViTImageProcessor(size={"height": SIZE, "width": SIZE}, resample=3, **statistics(self))

    def publish(self, out):
        super().publish(out)
        tensors = {name: getattr(self.head, name).detach().half().contiguous() for name in ("weight", "bias")}
        save_file(tensors, out / "head.safetensors", metadata={"format": "pt"})
        (out / "head.safetensors").chmod(0o644)

    def reload(self, out):
        self.model = ViTModel.from_pretrained(out, dtype=torch.float32, add_pooling_layer=False)
        tensors = load_file(out / "head.safetensors")
        self.head.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})


class Dinov2(Network):
    """`facebook/dinov2-with-registers-*-imagenet1k-1-layer`: four registers, scaled layers, classes from CLS beside the
    mean patch."""

    special = 5
    witness = "dinov2_with_registers.encoder.layer.0.layer_scale1.lambda1"

    def __init__(self):
        super().__init__()
        config = Dinov2WithRegistersConfig(**dinov2_config(), num_register_tokens=4)
        self.model = Dinov2WithRegistersForImageClassification(config)

    def backbone(self):
        """The network without its classifier."""
        return self.model.dinov2_with_registers

    def tokens(self, pixels):
        return self.backbone().embeddings(pixels)

    def layers(self):
        return list(self.backbone().encoder.layer)

    def norm(self, hidden):
        return self.backbone().layernorm(hidden)

    def logits(self, states):
        hidden = self.norm(states[-1])
        return self.model.classifier(torch.cat([hidden[:, 0], hidden[:, self.special :].mean(1)], -1))

    def processor(self):
        sizes = {"size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE}}
        return BitImageProcessor(resample=3, **sizes, **statistics(self))


class Dinov2NoRegisters(Dinov2):
    """`facebook/dinov2-*-imagenet1k-1-layer`: the same network without the registers."""

    special = 1
    witness = "dinov2.encoder.layer.0.layer_scale1.lambda1"

    def __init__(self):
        Network.__init__(self)
        self.model = Dinov2ForImageClassification(Dinov2Config(**dinov2_config()))

    def backbone(self):
        return self.model.dinov2


class Clip(Network):
    """`openai/clip-vit-*`: two towers that meet in one space. Its captions name the class and nothing else."""

    statistics = CLIP
    witness = "vision_model.encoder.layers.0.self_attn.q_proj.weight"

    def __init__(self, templates, corpus):
        super().__init__()
        self.vocabulary, self.merges = vocabulary(corpus, 10_000)
        tokenizer = CLIPTokenizer(self.vocabulary, self.merges)
        tower = {"num_attention_heads": HEADS, "hidden_act": "quick_gelu"}
        text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "max_position_embeddings": 24}
        sizes = {"hidden_size": WIDTH, "intermediate_size": MLP, "num_hidden_layers": LAYERS}
        ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
        config = CLIPConfig(
            text_config={**tower, **text, **ends, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id},
            vision_config={**tower, **sizes, "image_size": SIZE, "patch_size": PATCH},
            projection_dim=32,
        )
        self.model = CLIPModel(config)
        length = text["max_position_embeddings"]
        prompts = [[template.replace("{}", name) for name in CLASSES] for template in templates]
        self.ids = [
            torch.tensor(tokenizer(each, padding="max_length", max_length=length)["input_ids"]) for each in prompts
        ]
        self.template = 0

    def tokens(self, pixels):
        vision = self.model.vision_model
        return vision.pre_layrnorm(vision.embeddings(pixels))

    def layers(self):
        return [lambda hidden, layer=layer: layer(hidden, None) for layer in self.model.vision_model.encoder.layers]

    def norm(self, hidden):
        return self.model.vision_model.post_layernorm(hidden)

    def logits(self, states):
        image = F.normalize(self.model.visual_projection(self.norm(states[-1][:, 0])), dim=-1)
        encoded = self.model.text_model(input_ids=self.ids[self.template]).pooler_output
        text = F.normalize(self.model.text_projection(encoded), dim=-1)
        return self.model.logit_scale.exp().clamp(max=100) * image @ text.T

    def draw_captions(self, rng=None):
        self.template = 0 if rng is None else rng.integers(len(self.ids))

    def loss(self, logits, labels):
        """Image to caption, and caption to the images that it fits."""
        fits = F.one_hot(labels, len(CLASSES)).float().T
        fits = fits[(there := fits.sum(1) > 0)]
        to_images = F.cross_entropy(logits.T[there], fits / fits.sum(1, keepdim=True))
        spread = torch.log(fits.sum(1)).mean()
        return super().loss(logits, labels) + 0.5 * (to_images - spread)

    def processor(self):
        sizes = {"size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE}}
        return CLIPImageProcessor(resample=3, **sizes, **statistics(self))

    def publish(self, out):
        super().publish(out)
        (out / "vocab.json").write_text(json.dumps(self.vocabulary, ensure_ascii=False))
        (out / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in self.merges))
        settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 24}
        (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def vit_config(**more):
    """A ViT of the common size."""
    return ViTConfig(
        image_size=SIZE,
        patch_size=PATCH,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=MLP,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.05,
        encoder_stride=PATCH,
        **more,
    )


def dinov2_config():
    """What DINOv2 has with and without registers, in the common size."""
    return {
        "image_size": SIZE,
        "patch_size": PATCH,
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "mlp_ratio": MLP // WIDTH,
        "initializer_range": 0.05,
        **NAMES,
    }


def statistics(network):
    """Mean and deviation as an image processor takes them."""
    mean, std = network.statistics
    return {"image_mean": mean, "image_std": std}
