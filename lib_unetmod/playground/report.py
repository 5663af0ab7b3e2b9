"""What two drawings took and how far they are apart: in lines for a terminal, and as HTML for the page."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from .comparing import Comparison
from .samplers import SAMPLERS
from .sampling import Picture
from .settings import Settings

#: A field of `Timings` and its name for people, in the order in which a picture is made.
PARTS = (("text_encoder", "text encoder"), ("unet", "U-Net"), ("vae", "VAE"), ("rest", "the rest"))


def settings_line(settings: Settings) -> str:
    """`Euler, 20 steps, CFG 4, 128x128, seed 7`"""
    words = [SAMPLERS[settings.sampler].label, _count(settings.steps, "step"), f"CFG {settings.cfg:g}"]
    words += [f"{settings.width}x{settings.height}", f"seed {settings.seed}"]
    if settings.image is not None:
        words.append(f"img2img at strength {settings.strength:g}")
    return ", ".join(words)


def times_line(picture: Picture) -> str:
    """`20 evaluations of 41.2 ms, 950 ms in total: text encoder 9 ms, U-Net 824 ms, VAE 98 ms, the rest 19 ms`

    What was kept between evaluations follows, where something was: `; kept between evaluations: 3.1 MB`.
    """
    parts = ", ".join(f"{name} {_ms(getattr(picture.timings, part))}" for part, name in PARTS)
    kept = f"; kept between evaluations: {_megabytes(picture.kept_bytes)}" if picture.kept_bytes else ""
    return (
        f"{_count(picture.evaluations, 'evaluation')} of {picture.evaluation_ms:.1f} ms, "
        f"{_ms(picture.timings.total)} in total: {parts}{kept}"
    )


def difference_line(comparison: Comparison) -> str:
    """`PSNR 24.1 dB, SSIM 0.912; an evaluation is 1.31 times as fast`"""
    return f"{comparison.distance}; an evaluation is {comparison.speedup:.2f} times as fast"


def table(plain: Picture, modified: Picture | None) -> str:
    """Where the time went, as HTML: a bar for each picture on one scale, and the milliseconds of each part."""
    pictures = [("Plain", plain)] + ([("Modified", modified)] if modified else [])
    longest = max(picture.timings.total for _, picture in pictures)
    bars = "".join(_bar(name, picture, longest) for name, picture in pictures)
    head = "".join(f"<th scope='col'>{name}</th>" for name, _ in pictures)
    columns = [picture for _, picture in pictures]
    rows = [_row("", "One evaluation", [f"{p.evaluation_ms:.1f} ms" for p in columns], "unetmod-strong")]
    rows.append(_row("", "Evaluations", [str(p.evaluations) for p in columns]))
    for part, name in PARTS:
        rows.append(_row(part, name, [_ms(getattr(p.timings, part)) for p in columns]))
    rows.append(_row("", "In total", [_ms(p.timings.total) for p in columns], "unetmod-strong"))
    if any(p.kept_bytes for p in columns):
        rows.append(_row("", "Kept between evaluations", [_megabytes(p.kept_bytes) for p in columns]))
    return (
        f"<div class='unetmod-bars'>{bars}</div>"
        f"<table class='unetmod-times'><thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def headline(comparison: Comparison) -> str:
    """The distance and the gain as HTML figures, with what they mean on hovering."""
    apart = comparison.distance
    figures = [(f"{comparison.speedup:.2f}×", "as fast", "Plain milliseconds per evaluation over modified ones")]
    if apart.identical:
        figures.append(("identical", "pictures", "Every pixel is the same"))
    else:
        figures.append((f"{apart.psnr:.1f} dB", "PSNR", "Peak signal-to-noise ratio: higher is closer, 20 differs at sight"))
        figures.append((f"{apart.ssim:.3f}", "SSIM", "Structural similarity: 1 is the same structure"))
    cells = "".join(f"<div title='{escape(tip)}'><b>{value}</b><span>{name}</span></div>" for value, name, tip in figures)
    return f"<div class='unetmod-figures'>{cells}</div>"


def messages(sentences: Iterable[str], css_class: str = "unetmod-note") -> str:
    """Sentences for the user as an HTML list; empty where there are none."""
    items = "".join(f"<li class='{css_class}'>{escape(sentence)}</li>" for sentence in sentences)
    return f"<ul class='unetmod-messages'>{items}</ul>" if items else ""


def _bar(name: str, picture: Picture, longest: float) -> str:
    spans = "".join(
        f"<i class='unetmod-{part}' style='width:{100 * getattr(picture.timings, part) / longest:.2f}%' "
        f"title='{escape(label)} {_ms(getattr(picture.timings, part))}'></i>"
        for part, label in PARTS
    )
    return f"<span>{name}</span><div>{spans}</div>"


def _row(part: str, name: str, values: list[str], css_class: str = "") -> str:
    key = f"<i class='unetmod-{part}'></i>" if part else ""
    cells = "".join(f"<td>{value}</td>" for value in values)
    return f"<tr class='{css_class}'><th scope='row'>{key}{escape(name[0].upper() + name[1:])}</th>{cells}</tr>"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"
