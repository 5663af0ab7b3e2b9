"""The command line: what it writes and prints, and one sentence for whatever is wrong."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys

import pytest
import torch
from PIL import Image, PngImagePlugin
from safetensors.torch import save_file
from small_model import settings, tensors_of

from lib_unetmod import SkipBlocks
from lib_unetmod.playground import cli
from lib_unetmod.playground import model as playground_model
from lib_unetmod.playground.sampling import draw

SMALL = ("--steps", 1, "--width", 64, "--height", 64)


def test_generate_writes_the_picture(run, tmp_path, model):
    path = tmp_path / "apple.png"
    code, out, _ = run("generate", "red apple", "-o", path, *SMALL, "--seed", 3, "--set", "skip_blocks.levels=1")
    assert code == 0 and "1 step of" in out and "seed 3" in out
    drawn = draw(model, settings(steps=1, cfg=4.0, seed=3), [SkipBlocks(levels=1)])
    assert Image.open(path).tobytes() == drawn.image.tobytes()


def test_compare_writes_one_sheet_for_all_prompts(run, tmp_path):
    sizes = []
    for prompts in (["red apple"], ["red apple", "owl"]):
        path = tmp_path / f"{len(prompts)}.png"
        code, out, _ = run("compare", *prompts, "-o", path, *SMALL, "--set", "skip_blocks.middle=true")
        assert code == 0 and out.count("PSNR") == len(prompts) and out.count("modified: 1 step of") == len(prompts)
        with Image.open(path) as sheet:
            assert isinstance(sheet, PngImagePlugin.PngImageFile)
            sizes.append(sheet.size)
    assert sizes[0][0] == sizes[1][0] >= 2 * 256 and sizes[1][1] - sizes[0][1] > 256


def test_parts_says_what_each_is_worth_and_what_may_be_left_out(run, tmp_path):
    small = ("--steps", 2, "--width", 64, "--height", 64, "--cfg", 1)
    code, out, _ = run("parts", "red apple", "owl", *small)
    lines = out.splitlines()
    assert code == 0 and len(lines) == 87 and lines[0].split() == ["part", "time", "0-0.25", "0.25-1", "image"]
    path = tmp_path / "parts.png"
    code, out, _ = run("parts", "red apple", *small, "--leave-out", 1.2, "-o", path)
    assert (
        code == 0 and Image.open(path).size[0] > 1000 and re.search("Speed 1.2x: parts left out, 0.[0-9]+ of the time", out)
    )
    (assignment,) = re.findall(r"--set (skip_blocks.blocks=.*)", out)
    code, out, _ = run("generate", "owl", "-o", tmp_path / "owl.png", *small, "--set", assignment.replace("'", ""))
    assert code == 0
    code, _, err = run("parts", "owl", "--leave-out", 0.5)
    assert code == 2 and "takes a number above 1, up to 3" in err


def test_a_speed_is_met_and_one_that_cannot_be_is_refused(run, tmp_path):
    arguments = ("-o", tmp_path / "owl.png", "--width", 64, "--height", 64, "--speed", 2)
    code, out, _ = run("generate", "owl", *arguments, "--steps", 8)
    assert code == 0 and "8 steps (4 run) of" in out
    code, out, _ = run("compare", "owl", *arguments, "--steps", 8)
    assert code == 0 and "modified: 8 steps (4 run) of" in out
    code, _, err = run("generate", "owl", *arguments, "--steps", 4)
    assert (
        code == 2 and err == "Speed 2x cannot be reached with 4 steps: nothing is done. Take 8 steps or more, or use Tune.\n"
    )


def test_what_is_tuned_is_kept_and_drawn_with(run, tmp_path):
    kind = ("--width", 64, "--height", 64, "--steps", 8, "--sampler", "dpm++2m", "--tuned", tmp_path / "tuned")
    code, out, _ = run("tune", "owl", "taxi", *kind, "--speed", 2, "-o", tmp_path / "sheet.png")
    assert code == 0 and re.search(r"Speed 2x: .+, 0\.\d\d of the time", out)
    assert re.search(r"the time of (2\d|1\d) images", out) and (tmp_path / "sheet.png").is_file()
    (path,) = (tmp_path / "tuned").iterdir()
    assert f"Kept in {path.parent}" in out
    held = json.loads(path.read_text("utf-8"))
    held["methods"] = {"step_forecast": {"plan": "FPPPPPFF"}}  # one that nothing else would come to
    path.write_text(json.dumps(held), "utf-8")
    code, out, _ = run("generate", "owl", *kind, "--speed", 2, "-o", tmp_path / "owl.png")
    assert code == 0 and "8 steps (3 run) of" in out
    code, out, _ = run("generate", "owl", *kind[:4], *kind[6:], "--steps", 10, "--speed", 2, "-o", tmp_path / "owl.png")
    assert code == 0 and "Note: Speed 2x goes by what was tuned for 8 steps, CFG 4, 64x64." in out


def test_tuning_that_is_interrupted_keeps_the_best_so_far(run, tmp_path, monkeypatch):
    drawn = []

    def draw_some(*arguments, **more):
        drawn.append(1)
        if len(drawn) > 9:
            raise KeyboardInterrupt
        return draw(*arguments, **more)

    monkeypatch.setattr("lib_unetmod.playground.tuning.draw", draw_some)
    kind = ("--width", 64, "--height", 64, "--steps", 8, "--tuned", tmp_path / "tuned")
    code, out, _ = run("tune", "owl", *kind, "--speed", 2)
    assert code == 130 and "Tuning was stopped." in out and f"Kept in {tmp_path / 'tuned'}" in out
    (path,) = (tmp_path / "tuned").iterdir()
    assert json.loads(path.read_text("utf-8"))["measured"]["effort"] == 0


def test_info_names_blocks_words_methods_and_knobs(run):
    code, out, _ = run("info")
    assert code == 0
    for expected in ("sd1", "out.11", "128 + 128", "apple owl red", "skip_blocks", "levels = 0", "from 0 to 3"):
        assert expected in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--set", "skip_blocks.levels=9"], "levels is 9"),
        (["--set", "skip_blocks.level=1"], "no knob 'level'"),
        (["--set", "skip_block.levels=1"], "no method 'skip_block'"),
        (["--set", "skip_blocks=1"], "METHOD.KNOB=VALUE"),
        (["--set", "skip_blocks.blocks=in.99"], "in.99"),
        (["--steps", "many"], "--steps"),
        (["--speed", "7"], "--speed: speed is '7'; it takes off or 1.3x"),
        (["--seed", "9" * 10_000], "--seed"),
        (["--seed", "-2"], "Seed is -2; it takes a whole number from -1"),
        (["--steps", "0"], "Sampling steps is 0"),
        (["--sampler", "plms"], "Sampling method is 'plms'"),
        (["--image", "nowhere.png"], "nowhere.png"),
        (["-o", "picture.gif"], ".png"),
        (["-o", "no/such/folder/picture.png"], "folder"),
        (["--device", "toaster"], "toaster"),
        (["--frobnicate"], "--frobnicate"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(arguments, sentence, run, tmp_path):
    code, out, err = run("generate", "owl", "-o", tmp_path / "x.png", *SMALL, *arguments)
    assert code == 2 and sentence in err and err.count("\n") == 1 and len(err) < 400 and not out
    assert "left out" not in err and not (tmp_path / "x.png").exists()


def test_a_missing_or_foreign_checkpoint_is_one_sentence(tmp_path, capsys):
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(1)}, foreign)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no tensors here")
    for path in (tmp_path / "nothing.safetensors", foreign, broken):
        assert cli.main(["info", "--checkpoint", str(path)]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and path.name in err


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        ("{}", "it lacks unet"),
        ("[]", "it is no JSON object"),
        ("null", "it is no JSON object"),
        ("{", "it is no JSON object"),
        ("[" * 5000, "it is no JSON object"),
        (json.dumps({**playground_model.ARCHITECTURE, "unet": 3}), "cannot be built"),
        (json.dumps({**playground_model.ARCHITECTURE, "unet": {"model_channels": "wide"}}), "cannot be built"),
        (json.dumps({**playground_model.ARCHITECTURE, "vocabulary": 3}), "cannot be built"),
        (json.dumps({**playground_model.ARCHITECTURE, "vocabulary": ["only"]}), "does not fit the architecture"),
    ],
)
def test_an_architecture_that_cannot_be_built_is_one_sentence(architecture, words, model, tmp_path, capsys):
    path = tmp_path / "strange.safetensors"
    save_file(tensors_of(model), path, {"architecture": architecture})
    assert cli.main(["info", "--checkpoint", str(path)]) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1 and path.name in err and len(err) < 600


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(value, model, tmp_path, capsys):
    tensors = tensors_of(model)
    key = "model.diffusion_model.out.2.bias"
    tensors[key] = tensors[key].clone()
    tensors[key][0] = value
    save_file(tensors, tmp_path / "nan.safetensors", {"architecture": json.dumps(model.architecture)})
    assert cli.main(["info", "--checkpoint", str(tmp_path / "nan.safetensors")]) == 2
    err = capsys.readouterr().err
    assert f"nan.safetensors is damaged: {key} holds" in err and err.count("\n") == 1


def test_a_wrong_host_or_port_is_one_sentence_that_names_the_option(monkeypatch, capsys):
    monkeypatch.setattr(cli, "loaded", lambda options: pytest.fail("the model was loaded first"))
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        for arguments, words in (
            (["--port", port], f"Port {port} is taken by another program; try --port"),
            (["--host", "1.2.3.4"], "--host 1.2.3.4 is no address of this machine; try --host 127.0.0.1."),
            (["--host", "not an address"], "--host 'not an address' is no address; try --host 127.0.0.1."),
            (["--port", 0], "--port: 0 is no port; it takes 1 to 65535"),
            (["--port", 65536], "--port: 65536 is no port; it takes 1 to 65535"),
            (["--port", "x"], "--port: 'x' is no whole number"),
        ):
            assert cli.main(["page", *map(str, arguments)]) == 2
            err = capsys.readouterr().err
            assert words in err and err.count("\n") == 1


def test_it_runs_as_a_module():
    command = [sys.executable, "-m", "lib_unetmod.playground", "compare", "owl", "-o", "sheet.png"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "nothing to compare" in done.stderr and "Traceback" not in done.stderr
