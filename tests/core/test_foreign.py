"""Who stands inside layers, by hand: what acts there is named, what was left behind and the host's own are not."""

from __future__ import annotations

import functools
from types import MethodType, SimpleNamespace

import pytest
import torch
from unets import fresh

from lib_unetmod import HyperTile, SkipBlocks, inspect_unet, modified, what_is_on
from lib_unetmod.core.foreign import inside_layers, name_of, replaced_attentions
from lib_unetmod.core.patching import _Chain


@pytest.fixture
def unet():
    return fresh("sd1")


def attention(unet, kind="attn2"):
    return getattr(inspect_unet(unet).middle_block.transformer_blocks[0].module, kind)


def written_in(path):
    """A function as if it came from that file."""
    space = {"__name__": "by_file"}
    exec(compile("def function(*args, **kwargs): pass", path, "exec"), space)
    return space["function"]


def test_a_plain_unet_has_nobody_inside_and_ours_is_nobody(unet):
    assert inside_layers(inspect_unet(unet)) == []
    with modified(unet, [SkipBlocks(middle=True, blocks="in.4.attn")]) as run:
        assert inside_layers(run.map) == []


@pytest.mark.parametrize("kind", ("attn1", "attn2"))
def test_a_forward_in_place_of_an_attentions_is_named(unet, kind):
    module = attention(unet, kind)
    module.forward = written_in("/webui/extensions/sd-webui-controlnet/scripts/ip.py")
    assert inside_layers(inspect_unet(unet)) == ["sd-webui-controlnet"]
    module.forward = MethodType(type(module).forward, module)  # put back as an attribute
    assert inside_layers(inspect_unet(unet)) == []


def test_what_ip_adapter_leaves_behind_is_nobody(unet):
    module = attention(unet)
    module.forward, module.ipadapter_hacks = MethodType(lambda self: None, module), [1]
    assert inside_layers(inspect_unet(unet)) == ["test_foreign"]
    module.ipadapter_hacks = []
    assert inside_layers(inspect_unet(unet)) == []


def test_controlnets_reference_acts_while_it_stands_in_for_the_unets_forward(unet):
    inner = inspect_unet(unet).middle_block.transformer_blocks[0].module
    inner._original_inner_forward_cn_hijack = inner._forward
    inner._forward = written_in("/webui/extensions/sd-webui-controlnet/scripts/hook.py")
    assert inside_layers(inspect_unet(unet)) == []
    unet._original_forward = unet.forward
    assert inside_layers(inspect_unet(unet)) == ["sd-webui-controlnet"]


def test_hooks_inside_are_named_and_hooks_on_layers_and_blocks_see_whole_batches(unet):
    block = inspect_unet(unet).middle_block
    block.layers[1].module.register_forward_hook(lambda *_: None)
    unet.middle_block.register_forward_pre_hook(lambda *_: None)
    assert inside_layers(inspect_unet(unet)) == []
    handles = [
        attention(unet).to_q.register_forward_hook(written_in("C:/x/extensions/incantations/scripts/seg.py")),
        attention(unet).register_forward_pre_hook(lambda *_: None),
    ]
    assert sorted(inside_layers(inspect_unet(unet))) == ["incantations", "test_foreign"]
    for handle in handles:
        handle.remove()
    assert inside_layers(inspect_unet(unet)) == []


def test_a_wrapper_of_a_layer_counts_under_our_edits_and_not_around_them(unet):
    layer = unet.middle_block[1]
    under = layer.forward
    layer.forward = lambda *args, **kwargs: under(*args, **kwargs)
    with modified(unet, [SkipBlocks(middle=True)]) as run:
        assert inside_layers(run.map) == ["test_foreign"]
    del layer.forward
    with modified(unet, [SkipBlocks(middle=True)]) as run:
        ours = layer.forward
        layer.forward = lambda *args, **kwargs: ours(*args, **kwargs)
        assert inside_layers(run.map) == []
        layer.forward = ours


def test_functions_in_a_forks_options(unet):
    def patch():
        """Of an extension."""

    unet_map = inspect_unet(unet)
    between = {"patches": {"output_block_patch": [patch], "input_block_patch_after_skip": [patch]}}
    assert inside_layers(unet_map, between) == [] and replaced_attentions(between) == {}
    assert inside_layers(unet_map, {"patches": {"attn1_patch": [patch]}}) == ["test_foreign"]
    replaced = {"patches_replace": {"attn1": {("middle", 0): patch}, "attn2": {}}}
    assert inside_layers(unet_map, replaced) == ["test_foreign"]
    assert replaced_attentions(replaced) == {"attn1": {("middle", 0): "test_foreign"}}
    assert replaced_attentions(None) == {}


def test_names_are_those_of_folders_and_files():
    class Called:
        def __call__(self):
            """Can be called."""

    by_extension = written_in("/a/extensions/old/b/extensions-builtin/sd_forge_sag/scripts/sag.py")
    assert name_of(by_extension) == name_of(functools.partial(by_extension, 1)) == "sd_forge_sag"
    assert name_of(functools.wraps(name_of)(by_extension)) == "sd_forge_sag"
    assert name_of(Called()) == "test_foreign" and name_of(len) == "another extension"


def test_the_webuis_own_hypertile_treats_rows_alike(unet):
    attention(unet, "attn1").forward = written_in("/webui/extensions-builtin/hypertile/hypertile.py")
    assert inside_layers(inspect_unet(unet)) == []


def test_a_class_whose_forward_was_replaced_is_named_but_for_torchs_own(unet, monkeypatch):
    monkeypatch.setattr(torch.nn.Linear, "forward", written_in("/webui/extensions-builtin/Lora/networks.py"))
    assert inside_layers(inspect_unet(unet)) == []
    block = inspect_unet(unet).middle_block.layers[0].module
    monkeypatch.setattr(type(block), "forward", written_in("/webui/extensions/sd-webui-animatediff/motion.py"))
    assert inside_layers(inspect_unet(unet)) == ["sd-webui-animatediff"]


def test_our_own_edits_are_nobody_where_we_are_installed_as_an_extension(unet, monkeypatch):
    """In a WebUI our files lie in a folder of `extensions`, as those of others do."""
    code = _Chain.__call__.__code__
    monkeypatch.setattr(_Chain.__call__, "__code__", code.replace(co_filename="/webui/extensions/unetmod/lib_unetmod/x.py"))
    with modified(unet, [HyperTile(tile=64), SkipBlocks(blocks="mid.self")]) as run:
        assert name_of(_Chain.__call__) == "unetmod" and what_is_on(unet)
        assert run.needs_all_rows == ""


def test_style_align_goes_on_after_its_picture(unet):
    def left_behind(machine):
        outer = SimpleNamespace(attention_auto_machine=SimpleNamespace(name=machine))
        return lambda self, x: outer

    inner = inspect_unet(unet).middle_block.transformer_blocks[0].module
    inner._original_inner_forward_cn_hijack = inner._forward
    inner._forward = MethodType(left_behind("Read"), inner)
    assert inside_layers(inspect_unet(unet)) == []
    inner._forward = MethodType(left_behind("StyleAlign"), inner)
    assert inside_layers(inspect_unet(unet)) == ["test_foreign"]
