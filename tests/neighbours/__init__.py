"""Stand-ins for other extensions: each one's way of touching a U-Net, re-written in a few lines.

`NEIGHBOURS[name](strength)` makes one; a sentence under a picture calls it by its file here. `put_on(unet)` and `take_off()`
do to a U-Net, as `HOSTS[neighbour.host].prepare` gives it, what the extension does when its picture begins and ends;
`begin_evaluation()` is its callback before each evaluation, and `evaluate(unet, step)` how the U-Net is called in one. With
a strength of 0 everything is touched as ever and the picture stays as it is, so that whatever then differs is the doing of
how two meet. Where that would tell nothing, a `twin` does the same in a way that no method can get in the way of.

| neighbour | after | touches |
|---|---|---|
| ip_adapter | sd-webui-controlnet `plugable_ipadapter.py` | attn2.forward, with the image's tokens for all rows |
| reference, style_align | the same, `hook.py` | unet.forward, `_forward` of transformers, forward of blocks |
| ..._left, ..._put_back | the same, when its picture is done | what it leaves behind until a checkpoint is loaded |
| control, control_large | the same | unet.forward; residuals of the right and of another size |
| seg, pag | v0xie's Incantations | forward hooks on to_q, on to_v and attn1; pag: a further call |
| deepcache | aria1th's sd-webui-deepcache-standalone | unet.forward; leaves layers and whole blocks uncalled |
| tiles, tiles_apart, tile_batches | Tiled Diffusion (multidiffusion-upscaler) | nothing; calls of parts of the latent |
| regional | Regional Prompter `attention.py` | attn2.forward, which takes rows by place |
| kohya, kohya_before | wcde's Kohya hires.fix | elements of input_blocks and output_blocks, while sampling or before it |
| freeu | ljleb's sd-webui-freeu | torch.cat in the U-Net's file; h in place |
| cd_tuner | hako-mikan's CD-Tuner | parameters of conv_in and out, replaced while sampling |
| lora, lora_functional | A1111's Lora | forward of torch's classes, which write weights or add to answers |
| animatediff, animatediff_v1 | AnimateDiff | modules inserted into blocks; v1 also the group norm's class |
| hypertile_left | A1111's hypertile | attn1.forward, switched off but never taken away |
| sag, fork_pag, fork_style_align, fork_reference | Forge, reForge | functions in attn1's place, further calls |
| fork_ip_adapter | Forge | functions in attn2's place |
| attn1_patch, fork_tome | Forge | what attn1 is called with, and its answer |
| fork_freeu, hrfix, fork_control | Forge, reForge | maps between blocks; some in place |

Dynamic Thresholding, Neutral Prompt and CFG combiners replace `combine_denoised` of the denoiser and touch no U-Net.
"""

from . import attentions, blocks, controlnet, of_forks, walks, weights  # noqa: F401  (register them)
from .base import NEIGHBOURS, Neighbour

__all__ = ["NEIGHBOURS", "Neighbour"]
