"""The page of what was seen."""

import re

import numpy as np
import pytest

import tokenrank as tr

torch = pytest.importorskip("torch")
WIDTH = 8


class Attention(torch.nn.Module):
    def __init__(self, causal):
        super().__init__()
        self.causal = causal

    def forward(self, x, mask=None):
        q = x.unflatten(-1, (2, WIDTH // 2)).transpose(1, 2)
        return torch.nn.functional.scaled_dot_product_attention(q, q, q, mask, is_causal=self.causal).transpose(1, 2).flatten(-2)


def seen(tokens, *, batch=1, causal=False, layers=2, mask=None, **asked):
    torch.manual_seed(0)
    model = torch.nn.ModuleList(Attention(causal) for _ in range(layers))
    x = 3 * torch.randn(batch, tokens, WIDTH)
    with tr.watch(model, **asked) as found:
        for layer in model:
            layer(x, mask)
    return found


@pytest.mark.parametrize(
    "tokens, options, words",
    [
        (17, {"image": np.full((8, 8, 3), 200, np.uint8)}, '{"named":["CLS"]},{"grid":{"rows":4,"columns":4}}'),
        (21, {"image": np.zeros((3, 8, 8))}, '{"named":["CLS","register 1"'),
        (16, {"image": torch.rand(8, 8)}, '[{"grid":{"rows":4,"columns":4}}]'),
        (12, {"grid": (3, 4)}, '[{"grid":{"rows":3,"columns":4}}]'),
        (4, {"tokens": ["Ġa", "Ġb", "c", "."]}, '{"text":{"pieces":[" a"," b","c","."],"padding":0}}'),
        (14, {"tokens": ["a", " b"], "grid": (3, 4)}, '[{"text":{"pieces":["a"," b"],"padding":0}},{"grid":{"rows":3,"columns":4}}]'),
        (14, {"tokens": ["a", " b"], "grid": (3, 4), "text_after": True}, '[{"grid":{"rows":3,"columns":4}},{"text"'),
        (5, {}, '{"named":["0","1","2","3","4"]}'),
    ],
)
@pytest.mark.parametrize("kept", ["mean_map", "maps"])
def test_the_page_knows_the_tokens(tokens, options, words, kept, tmp_path):
    page = tr.show(seen(tokens, **{kept: True}), **options)
    html = page.html()
    assert words in html.replace(" \"", "\"") or words in html, re.findall(r'"layout":.{200}', html)
    assert page.save(tmp_path / "page.html").read_text() == html
    frame = page._repr_html_()
    assert frame.startswith("<iframe") and 'sandbox="allow-scripts"' in frame


def test_padding_is_left_out_of_the_page():
    mask = torch.ones(2, 1, 1, 6, dtype=torch.bool)
    mask[1, ..., 4:] = False
    found = seen(6, batch=2, mask=mask, mean_map=True)
    page = tr.show(found, tokens=list("abcdef"), item=1)
    assert '"pieces":["a","b","c","d"]' in page.html()
    assert '"pieces":["a","b","c","d","e","f"]' in tr.show(found, tokens=list("abcdef"), item=0).html()


@pytest.mark.parametrize(
    "options, words",
    [
        ({"tokens": ["a"]}, "1 tokens, but the chains have 6"),
        ({"grid": (5, 5)}, "5 × 5"),
        ({"grid": (0, 5)}, "0 × 5"),
        ({"item": 3}, "item 3"),
        ({"start": 9}, "token 9"),
        ({"bounces": 99}, "99"),
        ({"alpha": 0.0}, "alpha|α"),
        ({"image": np.full((4, 4, 3), 300)}, "0 to 255"),
        ({"image": np.full((4, 4, 3), 1.5)}, "0 to 1"),
        ({"image": np.zeros((0, 4, 3))}, "empty"),
        ({"image": np.zeros((4, 4, 5))}, r"\[4, 4, 5\]"),
    ],
)
def test_what_does_not_fit_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        tr.show(seen(6, mean_map=True), **options)


def test_maps_must_have_been_kept():
    with pytest.raises(ValueError, match="mean_map=True"):
        tr.show(seen(6))


def test_layers_of_different_sizes_are_refused():
    model = torch.nn.ModuleList([Attention(False), Attention(False)])
    with tr.watch(model, mean_map=True) as found:
        model[0](torch.randn(1, 5, WIDTH))
        model[1](torch.randn(1, 6, WIDTH))
    with pytest.raises(ValueError, match="same tokens"):
        tr.show(found)


def test_text_of_tokens_cannot_act():
    page = tr.show(seen(2, mean_map=True), tokens=["</script><script>alert(1)</script>", "<b>"], title="<i>title</i>").html()
    assert "alert(1)</script>" not in page and "<i>title" not in page


def test_what_was_seen_displays_itself():
    found = seen(6, causal=True)
    table = found._repr_html_()
    assert table.count("<tr>") == 2 and "causal" in table and f"{found.lambda2[0][0, 0]:.3f}" in table
