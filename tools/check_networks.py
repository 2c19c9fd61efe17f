"""The networks of `check_masking.py` as transformers reads them: ViT, CLIP, DINO, DINOv2 with or without registers."""

import json
import math
import tomllib

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from scipy.ndimage import gaussian_filter
from transformers import (
    AutoConfig,
    CLIPModel,
    CLIPTokenizer,
    Dinov2ForImageClassification,
    Dinov2WithRegistersForImageClassification,
    ViTForImageClassification,
    ViTModel,
)
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

PROCESSORS = {
    "ViTImageProcessor": ViTImageProcessorPil,
    "ViTImageProcessorPil": ViTImageProcessorPil,
    "ViTFeatureExtractor": ViTImageProcessorPil,
    "CLIPImageProcessor": CLIPImageProcessorPil,
    "CLIPImageProcessorPil": CLIPImageProcessorPil,
    "CLIPFeatureExtractor": CLIPImageProcessorPil,
    "BitImageProcessor": BitImageProcessorPil,
    "BitImageProcessorPil": BitImageProcessorPil,
}


def peer_of(run):
    """The network of a run, by the kind that its config.json says."""
    kind = AutoConfig.from_pretrained(run.model_path).model_type
    if kind == "vit":
        return Dino(run) if "head" in run.model else Vit(run)
    return {"clip": Clip, "dinov2": Dinov2, "dinov2_with_registers": Dinov2}[kind](run)


class Peer:
    """A network whose first `special` tokens are CLS and registers. Its parts are found by a kind's `open`."""

    special = 1
    last_blur = None

    def __init__(self, run):
        self.open(run)
        self.model = self.model.float().eval()
        kind = json.loads((run.model_path / "preprocessor_config.json").read_text())
        name = kind.get("image_processor_type") or kind["feature_extractor_type"]
        self.processor = PROCESSORS[name].from_pretrained(run.model_path)
        if run.image_size:
            self.processor.size = {"height": run.image_size, "width": run.image_size}
            self.processor.do_center_crop = False
        size, patch = self.config.image_size, self.config.patch_size
        self.trained_size = (size, size) if isinstance(size, int) else tuple(size)
        self.patch_size = (patch, patch) if isinstance(patch, int) else tuple(patch)
        self.depth = self.config.num_hidden_layers

    def pixels(self, pictures):
        return self.processor(pictures, return_tensors="pt")["pixel_values"]

    def interpolation(self, pixels):
        """What the classes that do not interpolate by themselves are told."""
        return {"interpolate_pos_encoding": tuple(pixels.shape[-2:]) != self.trained_size}

    def probed(self, pixels):
        """Embedded tokens [b, n, d], attention [b, layers, heads, n, n] and logits [b, classes] of whole images."""
        out = self.backbone(pixels, output_attentions=True, **self.interpolation(pixels))
        tokens = self.tokens(pixels)
        return tokens, torch.stack(out.attentions, 1), self.classify(tokens)

    def tokens(self, pixels):
        """What the first layer sees."""
        return self.backbone.embeddings(pixels, **self.interpolation(pixels))

    def classify(self, tokens):
        """Logits [b, classes] of sequences [b, special + any number of patches, d]."""
        states = []
        for layer in self.layers:
            tokens = layer(tokens, None)
            states.append(tokens)
        return self.logits(states)

    def classify_masked(self, mechanism, pixels, tokens, masked):
        """Logits of images [b, 3, h, w] with tokens [b, n, d] in which patches are masked: `masked` holds b lists of patches."""
        if mechanism == "remove":
            return self.classify_without(tokens, masked)
        return self.classify(self.masked_tokens(mechanism, pixels, tokens, masked))

    def masked_tokens(self, mechanism, pixels, tokens, masked):
        """Tokens [b, n, d] with masked patches, worked out image by image from pixels."""
        mask = torch.zeros(len(masked), tokens.shape[1] - self.special, dtype=torch.bool)
        for row, patches in zip(mask, masked):
            row[list(patches)] = True
        if mechanism == "zero-token":
            tokens = tokens.clone()
            tokens[:, self.special :][mask] = 0
            return tokens
        if mechanism == "mask-token":
            return self.backbone.embeddings(pixels, bool_masked_pos=mask, **self.interpolation(pixels))
        if mechanism == "zero-embedding":
            # The module that embeds pixels returns [b, patches, d], in CLIP [b, d, rows, columns].
            def clear(module, given, out):
                kept = ~mask
                return out * (kept[:, :, None] if out.dim() == 3 else kept.reshape(len(out), 1, *out.shape[2:]))

            hook = self.patch_embeddings().register_forward_hook(clear)
            try:
                return self.tokens(pixels)
            finally:
                hook.remove()
        return self.tokens(self.filled(mechanism["pixels"], pixels, mask))

    def patch_embeddings(self):
        return self.backbone.embeddings.patch_embeddings

    def filled(self, fill, pixels, mask):
        """Pixels [b, 3, h, w] with masked patches [b, patches] filled."""
        down, across = self.patch_size
        rows, columns = pixels.shape[-2] // down, pixels.shape[-1] // across
        area = F.interpolate(mask.reshape(-1, 1, rows, columns).float(), scale_factor=(down, across)) > 0.5
        # A remainder at the edge belongs to no patch.
        area = F.pad(area, (0, pixels.shape[-1] - area.shape[-1], 0, pixels.shape[-2] - area.shape[-2]))
        if fill == "grey":
            other = torch.zeros_like(pixels)
        elif fill == "black":
            black = Image.new("RGB", (64, 64))
            other = self.pixels([black])[:, :, :1, :1].expand_as(pixels)
        elif fill == "mean":
            other = pixels.mean((2, 3), keepdim=True).expand_as(pixels)
        else:
            other = self.blurred(pixels)
        return torch.where(area, other, pixels)

    def blurred(self, pixels):
        """Pixels [b, 3, h, w] after SciPy's Gaussian blur in float64. Those of the last images are kept, as many passes need them."""
        if self.last_blur is None or self.last_blur[0] is not pixels:
            sigma = min(pixels.shape[-2:]) / 16
            wide = {"sigma": sigma, "radius": math.ceil(3 * sigma), "mode": "mirror", "axes": (2, 3)}
            self.last_blur = pixels, torch.from_numpy(gaussian_filter(pixels.double().numpy(), **wide)).float()
        return self.last_blur[1]

    def classify_without(self, tokens, removed):
        """Logits of images [b, n, d] after taking patches out: `removed` holds b equally long lists of patches."""
        special = list(range(self.special))
        patches = range(tokens.shape[1] - self.special)
        kept = [special + [self.special + p for p in patches if p not in gone] for gone in map(set, removed)]
        rows = [image.index_select(0, torch.tensor(index)) for image, index in zip(tokens, kept)]
        return self.classify(torch.stack(rows))


class Vit(Peer):
    def open(self, run):
        self.model = ViTForImageClassification.from_pretrained(run.model_path, attn_implementation="eager")
        self.backbone, self.config = self.model.vit, self.model.config
        self.layers = self.backbone.layers

    def logits(self, states):
        return self.model.classifier(self.backbone.layernorm(states[-1])[:, 0])


class Dino(Peer):
    def open(self, run):
        self.model = ViTModel.from_pretrained(
            run.model_path, attn_implementation="eager", add_pooling_layer=False
        )
        self.backbone, self.config = self.model, self.model.config
        self.layers = self.model.layers
        self.head = {name: tensor.float() for name, tensor in load_file(run.root / run.model["head"]).items()}

    def logits(self, states):
        norm, width = self.model.layernorm, self.config.hidden_size
        if self.head["weight"].shape[1] == 4 * width:
            features = torch.cat([norm(state[:, 0]) for state in states[-4:]], -1)
        else:
            last = norm(states[-1])
            features = torch.cat([last[:, 0], last[:, 1:].mean(1)], -1)
        return F.linear(features, self.head["weight"], self.head["bias"])


class Dinov2(Peer):
    def open(self, run):
        registers = AutoConfig.from_pretrained(run.model_path).model_type != "dinov2"
        kind = Dinov2WithRegistersForImageClassification if registers else Dinov2ForImageClassification
        self.model = kind.from_pretrained(run.model_path, attn_implementation="eager")
        self.config = self.model.config
        self.special = 1 + (self.config.num_register_tokens if registers else 0)
        self.backbone = self.model.dinov2_with_registers if registers else self.model.dinov2
        self.layers = self.backbone.encoder.layer

    def interpolation(self, pixels):
        return {}

    def logits(self, states):
        last = self.backbone.layernorm(states[-1])
        return self.model.classifier(torch.cat([last[:, 0], last[:, self.special :].mean(1)], -1))


class Clip(Peer):
    def open(self, run):
        self.model = CLIPModel.from_pretrained(run.model_path, attn_implementation="eager").float().eval()
        self.backbone, self.config = self.model.vision_model, self.model.config.vision_config
        self.layers = self.backbone.encoder.layers
        asked = run.model["zero_shot"]
        descriptor = tomllib.loads((run.root / asked["descriptor"]).read_text())
        templates = ["a photo of a {}"] if asked["templates"] == "single" else descriptor["templates"]
        tokenizer = CLIPTokenizer.from_pretrained(run.model_path)
        length = self.model.config.text_config.max_position_embeddings
        with torch.no_grad():
            classes = [self.embedded(tokenizer, length, templates, name) for name in descriptor["classes"]]
        self.classes = F.normalize(torch.stack(classes), dim=-1)

    def embedded(self, tokenizer, length, templates, name):
        """The mean of the unit vectors of a class in all templates."""
        prompts = [template.replace("{}", name) for template in templates]
        ids = tokenizer(prompts, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        texts = self.model.text_projection(self.model.text_model(input_ids=ids["input_ids"]).pooler_output)
        return F.normalize(texts, dim=-1).mean(0)

    def patch_embeddings(self):
        return self.backbone.embeddings.patch_embedding

    def tokens(self, pixels):
        return self.backbone.pre_layrnorm(super().tokens(pixels))

    def logits(self, states):
        image = self.model.visual_projection(self.backbone.post_layernorm(states[-1][:, 0]))
        return self.model.logit_scale.exp() * F.normalize(image, dim=-1) @ self.classes.T
