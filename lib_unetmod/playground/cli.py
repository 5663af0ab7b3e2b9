"""The command line: the page, `generate`, `compare`, `tune`, `parts` and `info`.

    python -m lib_unetmod.playground                                  # the page, on http://127.0.0.1:7865
    python -m lib_unetmod.playground generate "red apple" -o apple.png --set skip_blocks.middle=true
    python -m lib_unetmod.playground compare "red apple" "owl" -o sheet.png --speed 2
    python -m lib_unetmod.playground tune "red apple" "owl" --speed 2 --sampler dpm++2m --schedule automatic --cfg 7
    python -m lib_unetmod.playground parts "red apple" "owl" --steps 4 --leave-out 1.2 -o parts.png
    python -m lib_unetmod.playground info

The page opens in the browser where there is one to show it; `--no-browser` leaves it closed.

Exit codes: 0 done, 2 wrong input, with one sentence on stderr.
"""

from __future__ import annotations

import argparse
import errno
import os
import shlex
import socket
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from ..core.config import Config
from ..core.knobs import ConfigError, shortened
from ..settings.profiles import Profiles
from ..settings.speed_target import KNOB, OFF, with_speed
from .folders import tuned_folder
from .model import CHECKPOINT, SmallModel
from .options import UsageError, configs_of, loaded, png, save, settings_of
from .samplers import SAMPLERS, SCHEDULE_TYPES
from .settings import Settings, SettingsError

HOST, PORT = "127.0.0.1", 7865
COMMANDS = ("page", "generate", "compare", "tune", "parts", "info")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message[0].upper()}{message[1:]}; see {self.prog} --help.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line with `arguments` (by default the process's own) and return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help")):
        given.insert(0, "page")
    try:
        options = _parser().parse_args(given)
        options.command(options)
    except (UsageError, SettingsError, ConfigError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m lib_unetmod.playground", description="Try UNet Mod's methods on a small real model.")
    commands = parser.add_subparsers(metavar="{" + ",".join(COMMANDS) + "}", required=True)

    page = commands.add_parser("page", help="serve the page on this machine; without a command, this")
    page.add_argument("--host", default=HOST, help=f"address to listen on ({HOST}: this machine alone)")
    page.add_argument("--port", type=_port, default=PORT, help=f"port to listen on ({PORT})")
    page.add_argument("--no-browser", action="store_true", help="print the address and open no browser")
    page.set_defaults(command=_page)

    generate = commands.add_parser("generate", help="draw one picture, with the methods that are set")
    generate.add_argument("prompt")
    generate.set_defaults(command=_generate)

    compare = commands.add_parser("compare", help="draw original and modified pictures side by side on one PNG")
    compare.add_argument("prompt", nargs="+")
    compare.set_defaults(command=_compare)

    tune = commands.add_parser("tune", help="search, for this model, the steps that may be left out at a speed")
    tune.add_argument("prompt", nargs="+", help="what is drawn for it; a few that differ are best")
    tune.add_argument("--thorough", action="store_true", help="take the time of 200 pictures and not of 25")
    tune.set_defaults(command=_tune)

    parts = commands.add_parser("parts", help="say what each part of the U-Net is worth, and which may be left out")
    parts.add_argument("prompt", nargs="+", help="what is drawn for it; a few that differ are best")
    parts.add_argument(
        "--leave-out", type=_faster, metavar="TIMES", help="find what to leave out for that many times the speed"
    )
    parts.set_defaults(command=_parts)

    info = commands.add_parser("info", help="say what the U-Net has and which methods there are")
    info.set_defaults(command=_info)

    for drawing in (generate, compare, tune, parts):
        _add_settings(drawing, written=drawing in (generate, compare))
        drawing.add_argument(
            "--tuned", type=Path, default=tuned_folder(), metavar="FOLDER", help="where tuning keeps its files"
        )
    for command in (page, generate, compare, tune, parts, info):
        command.add_argument(
            "--checkpoint", type=Path, default=CHECKPOINT, help="another checkpoint of the playground's kind"
        )
        command.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1 (cpu)")
    return parser


def _add_settings(parser: argparse.ArgumentParser, written: bool) -> None:
    defaults = Settings()
    parser.add_argument("-o", "--output", type=Path, required=written, metavar="FILE.png")
    parser.add_argument("--set", action="append", default=[], metavar="METHOD.KNOB=VALUE", help="set a knob; see info")
    parser.add_argument("--speed", type=_speed, default=OFF, help=f"times faster: {' '.join(KNOB.choices)}")
    parser.add_argument("--negative", default="", metavar="TEXT", help="negative prompt")
    parser.add_argument("--seed", type=_whole, default=defaults.seed, help="-1 = random")
    parser.add_argument("--steps", type=_whole, default=defaults.steps, help="sampling steps")
    parser.add_argument("--sampler", default=defaults.sampler, help=" ".join(SAMPLERS))
    parser.add_argument("--schedule", default=defaults.schedule, help=f"noise levels: {' '.join(SCHEDULE_TYPES)}")
    parser.add_argument("--cfg", type=float, default=defaults.cfg, help="CFG scale; 1 leaves the negative prompt out")
    parser.add_argument("--width", type=_whole, default=defaults.width, help="pixels, rounded up to a multiple of 64")
    parser.add_argument("--height", type=_whole, default=defaults.height, help="pixels, rounded up to a multiple of 64")
    parser.add_argument("--image", type=Path, help="img2img: the picture to begin from")
    parser.add_argument("--strength", type=float, default=defaults.strength, help="of img2img, 0 (one step) to 1")


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{shortened(text)} is no whole number") from None


def _faster(text: str) -> float:
    try:
        times = float(text)
    except ValueError:
        times = 0.0
    if not 1 < times <= 3:
        raise argparse.ArgumentTypeError(f"{shortened(text)} is no speed; it takes a number above 1, up to 3")
    return times


def _speed(text: str) -> str:
    try:
        return KNOB.parse(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error).rstrip(".")) from None


def _port(text: str) -> int:
    port = _whole(text)
    if not 1 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{port} is no port; it takes 1 to 65535")
    return port


def _page(options: argparse.Namespace) -> None:
    _check_address(options.host, options.port)  # before the model is loaded, which takes seconds
    model = loaded(options)
    from . import serving

    try:
        serving.serve(model, options.host, options.port, browser=not options.no_browser)
    except OSError:
        raise UsageError(_busy(options.port)) from None


def _check_address(host: str, port: int) -> None:
    """Listen there for a moment.

    Raises:
        UsageError: where that cannot be, naming the option to change.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as trial:
            if os.name != "nt":  # as uvicorn does: a port that was left a moment ago is free
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except (socket.gaierror, UnicodeError):
        raise UsageError(f"--host {shortened(host)} is no address; try --host {HOST}.") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UsageError(_busy(port)) from None
        if error.errno in (errno.EACCES, errno.EPERM):
            raise UsageError(f"You may not listen on port {port}; try --port {PORT}.") from None
        raise UsageError(f"--host {host} is no address of this machine; try --host {HOST}.") from None


def _busy(port: int) -> str:
    return f"Port {port} is taken by another program; try --port {port % 65535 + 1}."


def _generate(options: argparse.Namespace) -> None:
    settings, configs, output = settings_of(options, options.prompt), configs_of(options.set), png(options.output)
    from .report import settings_line, times_line
    from .sampling import draw

    model = loaded(options)
    picture = draw(model, settings, _with_speed(options, configs, model, settings), _show_progress)
    save(picture.image, output)
    print(f"{output}: {settings_line(picture.settings)}\n{times_line(picture)}")
    _print_notes(picture.notes)


def _compare(options: argparse.Namespace) -> None:
    all_settings = [settings_of(options, prompt) for prompt in options.prompt]
    configs, output = configs_of(options.set), png(options.output)
    if not configs and options.speed == OFF:
        raise UsageError("There is nothing to compare: give --speed 2, or a method with --set skip_blocks.middle=true.")
    from .comparing import compare
    from .report import difference_line, settings_line, times_line
    from .sheet import sheet

    model = loaded(options)
    configs = _with_speed(options, configs, model, all_settings[0])
    comparisons = [compare(model, settings, configs, _show_progress) for settings in all_settings]
    save(sheet(comparisons, configs), output)
    print(f"{output}: {len(comparisons)} of {settings_line(comparisons[0].plain.settings)}")
    for comparison in comparisons:
        print(f"\n{comparison.plain.settings.prompt or '(no prompt)'}: {difference_line(comparison)}")
        print(f"  original: {times_line(comparison.plain)}\n  modified: {times_line(comparison.modified)}")
    _print_notes(dict.fromkeys(note for comparison in comparisons for note in comparison.notes))


def _tune(options: argparse.Namespace) -> None:
    output = png(options.output) if options.output else None
    settings, configs = settings_of(options, options.prompt[0]), configs_of(options.set)
    words = [options.speed] if options.speed != OFF else [word for word in KNOB.choices if word != OFF]
    from ..tuning.result import keep, sentences
    from ..tuning.search import tune
    from ..tuning.trials import QUICK, THOROUGH
    from .tuning import PlaygroundDrawer

    model = loaded(options)
    drawer = PlaygroundDrawer(model, settings, options.prompt, configs)
    effort = THOROUGH if options.thorough else QUICK
    found = tune(drawer, words, effort, _show_tuning)
    not_kept = keep(found, drawer.upcoming, effort, Profiles(options.tuned))
    for sentence in [*sentences(found, drawer.upcoming), *not_kept]:
        print(sentence)
    if len(found.tuned) > len(not_kept):
        print(f"Kept in {options.tuned}")
    if found.stopped:
        raise KeyboardInterrupt
    if output and found.tuned:
        from ..tuning.shown import figure
        from .sampling import draw

        best = [*configs, *found.tuned[-1].best.candidate.configs]
        shown = [settings_of(options, prompt) for prompt in options.prompt[:2]]
        pairs = [(draw(model, one, configs).image, draw(model, one, best).image) for one in shown]
        save(figure(found, pairs), output)
        print(f"{output}: all steps and {found.tuned[-1].word}")


def _parts(options: argparse.Namespace) -> None:
    output = png(options.output) if options.output else None
    settings, configs = settings_of(options, options.prompt[0]), configs_of(options.set)
    from ..core.unet_map import inspect_unet
    from ..tuning.drawer import Stopped
    from ..tuning.part_measuring import value_parts
    from ..tuning.part_search import leave_out, names_left_out
    from ..tuning.result import sentence
    from ..tuning.trials import QUICK
    from .part_report import text_table, unet_picture
    from .tuning import PlaygroundDrawer

    model = loaded(options)
    drawer = PlaygroundDrawer(model, settings, options.prompt, configs)
    names: tuple[str, ...] = ()
    said = ""
    try:
        if options.leave_out is None:
            values = value_parts(drawer, max(len(options.prompt), 2), _show_tuning)
        else:
            values, tuned = leave_out(drawer, options.leave_out, QUICK, _show_tuning)
            names = names_left_out(tuned)
            said = f"\n\n{sentence(tuned, drawer.upcoming)}\n--set skip_blocks.blocks={shlex.quote(' '.join(names))}"
    except Stopped:
        raise KeyboardInterrupt from None
    print(f"{text_table(values)}{said}")
    if output:
        save(unet_picture(inspect_unet(model.unet), values, names), output)
        print(output)


def _info(options: argparse.Namespace) -> None:
    from .info import about_methods, about_model

    print(f"{about_model(loaded(options))}\n\n{about_methods()}")


def _with_speed(
    options: argparse.Namespace, configs: Sequence[Config], model: SmallModel, settings: Settings
) -> list[Config]:
    """The configs with those that --speed needs for these settings.

    Raises:
        UsageError: where the speed cannot be reached.
    """
    if options.speed == OFF:
        return list(configs)
    from .sampling import upcoming

    profiles = Profiles(options.tuned)
    configs, found = with_speed(options.speed, configs, upcoming(model, settings.settled()[0]), profiles)
    if found.sentence:
        raise UsageError(found.sentence)
    _print_notes(filter(None, [*profiles.problems(), found.note]))
    return configs


def _show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        filled = 30 * done // total
        end = "\r\033[K" if done == total else ""
        print(f"\r{'#' * filled}{'.' * (30 - filled)} {done}/{total}", end=end, file=sys.stderr, flush=True)


def _show_tuning(words: str, share: float, seconds: float) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{100 * share:3.0f} %, about {seconds:.0f} s left. {words}", end="", file=sys.stderr, flush=True)
        if share == 1:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _print_notes(notes: Iterable[str]) -> None:
    from .report import with_list

    for note in with_list(notes, "`info` lists the words it knows."):
        print(f"Note: {note}")
