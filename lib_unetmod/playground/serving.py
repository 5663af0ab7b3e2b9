"""Serving the page: its address, the browser that opens on it, and that nobody else is asked for anything."""

from __future__ import annotations

import os
import sys
import webbrowser
from typing import TYPE_CHECKING

from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .model import SmallModel
from .page import DOCS, build

if TYPE_CHECKING:  # the page imports it, once it has told it to send nothing home
    import gradio as gr


def serve(model: SmallModel, host: str, port: int, browser: bool = True) -> None:
    """Show the page until it is interrupted, and print its address. Nothing beyond `host` is asked for anything.

    With `browser` the page opens in the user's browser, where there is a desktop to show it.

    Raises:
        OSError: where the port is taken or the address is not this machine's.
    """
    page = build(model)
    launch(page, host, port)
    # Every address of this machine is no address to visit.
    address = f"http://{'127.0.0.1' if host in ('0.0.0.0', '::', '') else f'[{host}]' if ':' in host else host}:{port}"
    print(f"UNet Mod's playground: {address}  (Ctrl+C ends it)", flush=True)
    if browser and has_desktop():
        webbrowser.open(address)
    page.block_thread()


def has_desktop() -> bool:
    """Whether a browser opened here would be seen: somebody is at this machine's own screen, and no script runs this."""
    if os.environ.get("CI") or os.environ.get("SSH_CONNECTION") or not sys.stdout.isatty():
        return False
    return sys.platform in ("win32", "darwin") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))


def launch(page: gr.Blocks, host: str, port: int) -> None:
    """Serve `page` in the background; `page.close()` ends it. Its answers forbid the browser to ask anyone else."""
    page.launch(
        server_name=host,
        server_port=port,
        share=False,
        quiet=True,
        show_error=True,
        prevent_thread_lock=True,
        app_kwargs={
            "middleware": [Middleware(_OwnOriginOnly)],
            "routes": [Mount("/docs", StaticFiles(directory=DOCS, check_dir=False))],
        },
    )


class _OwnOriginOnly:
    """gradio's page asks a public server for a script that only embedded pages need; this header keeps it from doing so."""

    policy = b"default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'"

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", self.policy)]
            await send(message)

        await self._app(scope, receive, send_with_policy)
