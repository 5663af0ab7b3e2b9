"""Where a WebUI's page finds our docs: gradio serves files in the folders that the WebUI allows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import pytest
from webui_stubs import shared

from lib_unetmod.webui import host


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str | None]:
    """The link to speed.md where the extension lies in a folder of a WebUI's data folder, and these folders are allowed."""

    def link(folder: str, *allowed: Path, started_in: Path | None = None) -> str | None:
        extension = tmp_path / "webui" / "extensions" / folder
        (extension / "docs").mkdir(parents=True)
        (extension / "docs" / "speed.md").write_text("# Speed\n")
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.setattr(host, "__file__", str(extension / "lib_unetmod" / "webui" / "host.py"))
        monkeypatch.setattr(shared, "cmd_opts", SimpleNamespace(gradio_allowed_path=list(map(str, allowed))), raising=False)
        monkeypatch.chdir(started_in or tmp_path / "webui")
        assert host.docs_link("no such page.md") is None
        return host.docs_link("speed.md")

    return link


def test_link_is_seen_from_the_webuis_folder(installed, tmp_path):
    assert installed("sd-webui-unetmod", tmp_path / "webui") == "file=extensions/sd-webui-unetmod/docs/speed.md"


def test_signs_that_mean_something_in_an_address_are_written_otherwise(installed, tmp_path):
    found = installed("UNet Mod #2 'new'?", tmp_path / "webui")
    assert not set(" #'?") & set(found) and unquote(found) == "file=extensions/UNet Mod #2 'new'?/docs/speed.md"


def test_seen_from_another_folder_the_path_is_whole(installed, tmp_path):
    (tmp_path / "program").mkdir()
    found = installed("unetmod", tmp_path / "webui", started_in=tmp_path / "program")
    assert unquote(found) == f"file={(tmp_path / 'webui').as_posix()}/extensions/unetmod/docs/speed.md"


def test_without_leave_there_is_no_link(installed, tmp_path, monkeypatch):
    assert installed("unetmod", tmp_path / "elsewhere") is None
    monkeypatch.delattr(shared, "cmd_opts")
    assert host.docs_link("speed.md") is None


def test_gradio_3_serves_nothing_in_a_hidden_folder(installed, tmp_path):
    assert installed(".unetmod", tmp_path / "webui") is None
