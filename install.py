"""Run by the WebUI at every start, and has nothing to do.

All that UNet Mod imports there is torch and gradio, which are the WebUI's own and must stay as they are. The file says so
where one looks for what an extension installs; tests/repository/test_install.py holds it to it.
"""
