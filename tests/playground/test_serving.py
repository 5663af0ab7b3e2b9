"""Serving the page: the browser that opens, the address it opens, and that nobody else is asked."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from small_model import served


@pytest.mark.parametrize(
    ("platform", "variables", "terminal", "opens"),
    [
        ("linux", {"DISPLAY": ":0"}, True, True),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True, True),
        ("linux", {}, True, False),
        ("linux", {"DISPLAY": ":0"}, False, False),
        ("linux", {"DISPLAY": ":0", "CI": "true"}, True, False),
        ("linux", {"DISPLAY": ":0", "SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22"}, True, False),
        ("darwin", {}, True, True),
        ("win32", {}, True, True),
    ],
)
def test_a_browser_opens_where_somebody_sees_it(platform, variables, terminal, opens, monkeypatch):
    from lib_unetmod.playground import serving

    for name in ("DISPLAY", "WAYLAND_DISPLAY", "CI", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(serving.sys, "platform", platform)
    monkeypatch.setattr(serving.sys.stdout, "isatty", lambda: terminal, raising=False)
    assert serving.has_desktop() is opens


@pytest.mark.parametrize(("host", "address"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]")])
def test_the_address_that_opens_can_be_visited(host, address, monkeypatch, capsys):
    from lib_unetmod.playground import serving

    opened = []
    monkeypatch.setattr(serving, "build", lambda model: SimpleNamespace(block_thread=lambda: None))
    monkeypatch.setattr(serving, "launch", lambda *_: None)
    monkeypatch.setattr(serving, "has_desktop", lambda: True)
    monkeypatch.setattr(serving.webbrowser, "open", opened.append)
    serving.serve(None, host, 7865)
    serving.serve(None, host, 7865, browser=False)
    assert opened == [f"http://{address}:7865"] and capsys.readouterr().out.count(f"http://{address}:7865 ") == 2


def test_the_page_asks_nobody_else(model):
    pytest.importorskip("gradio", minversion="5")
    import httpx

    with served(model) as address:
        answer = httpx.get(address)
    assert answer.headers["content-security-policy"].startswith("default-src 'self'")
    assert "fonts.googleapis.com/css" not in answer.text
