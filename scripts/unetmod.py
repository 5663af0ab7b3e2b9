"""UNet Mod as a script of the WebUI. What it does is in lib_unetmod.webui.

Everything of ours is imported here, since the extension's folder is on the import path only while this file is executed.
"""

from modules import script_callbacks, scripts

from lib_unetmod.webui import api, page, sampling, settings, xyz
from lib_unetmod.webui.panel import TITLE


class UNetModScript(scripts.Script):
    """Always visible, in txt2img and img2img: the switch beside the seed, the accordion under it."""

    section = "seed"
    create_group = False

    def __init__(self):
        self.page = page.Page(self)

    def title(self):
        return TITLE

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return self.page.controls()

    def process(self, p, *args):
        choice = api.with_axes(api.read(args, settings.read()), xyz.axes_of(p))
        sampling.prepare(p, choice)

    def process_batch(self, p, *args, **kwargs):
        sampling.arm(p)

    def process_before_every_sampling(self, p, *args, **kwargs):
        sampling.begin_pass(p)

    def postprocess_batch(self, p, *args, **kwargs):
        sampling.batch_done(p)

    def postprocess(self, p, processed, *args):
        sampling.finish(p, processed)


def _on_ui_settings():
    settings.add_options()
    # Here rather than before the page is built, which comes too late for --nowebui.
    xyz.add_axes()


script_callbacks.on_ui_settings(_on_ui_settings)
script_callbacks.on_cfg_denoiser(sampling.on_cfg_denoiser)
