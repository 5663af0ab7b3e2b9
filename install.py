"""Run by the WebUI at every start: installs what is missing, says nothing and asks nothing of the network otherwise.

Everything the extension needs (torch, safetensors, einops, tomesd) comes with the WebUI. torch is never touched.
"""

import launch

_PACKAGES = {"einops": "einops", "safetensors": "safetensors", "tomesd": "tomesd"}

for _module, _package in _PACKAGES.items():
    if not launch.is_installed(_module):
        launch.run_pip(f"install {_package}", f"UNet Mod requirement: {_package}")
