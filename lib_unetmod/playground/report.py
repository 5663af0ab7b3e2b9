"""What two drawings took and how far they are apart: in lines for a terminal, and as HTML for the page."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from .comparing import Comparison
from .samplers import SAMPLERS, schedule_type
from .sampling import UNKNOWN_WORDS, Picture
from .settings import Settings

#: A field of `Timings` and its name for people, in the order in which a picture is made.
PARTS = (("text_encoder", "text encoder"), ("unet", "U-Net"), ("vae", "VAE"), ("rest", "the rest"))


def call(settings: Settings) -> str:
    """What an evaluation is to a user: a step, or, where the sampler makes two in most steps, a call of the U-Net."""
    return "step" if SAMPLERS[settings.sampler].scheduler.order == 1 else "U-Net call"


def settings_line(settings: Settings) -> str:
    """`Euler, 20 steps, CFG 4, 128x128, seed 7`"""
    kind = schedule_type(settings.sampler, settings.schedule)
    words = [f"{SAMPLERS[settings.sampler].label} {kind}".strip(), _count(settings.steps, "step"), f"CFG {settings.cfg:g}"]
    words += [f"{settings.width}x{settings.height}", f"seed {settings.seed}"]
    if settings.image is not None:
        words.append(f"img2img at denoising strength {settings.strength:g}")
    return ", ".join(words)


def times_line(picture: Picture) -> str:
    """`20 steps of 41.2 ms, 950 ms in total: text encoder 9 ms, U-Net 824 ms, VAE 98 ms, the rest 19 ms`

    What was kept between steps follows, where something was: `; kept between steps: 3.1 MB`; and where not all were run,
    how many: `20 steps (10 run)`.
    """
    ran = f" ({picture.evaluations - picture.predicted} run)" if picture.predicted else ""
    parts = ", ".join(f"{name} {_ms(getattr(picture.timings, part))}" for part, name in PARTS)
    kept = f"; kept between {call(picture.settings)}s: {_megabytes(picture.kept_bytes)}" if picture.kept_bytes else ""
    return (
        f"{_count(picture.evaluations, call(picture.settings))}{ran} of {picture.evaluation_ms:.1f} ms, "
        f"{_ms(picture.timings.total)} in total: {parts}{kept}"
    )


def difference_line(comparison: Comparison) -> str:
    """`PSNR 24.1 dB, SSIM 0.912; a step is 1.31 times as fast`"""
    return f"{comparison.distance}; a {call(comparison.plain.settings)} is {comparison.speedup:.2f} times as fast"


def table(plain: Picture, modified: Picture | None) -> str:
    """Where the time went, as HTML: a bar for each picture on one scale, and the milliseconds of each part."""
    pictures = [("Original", plain)] + ([("Modified", modified)] if modified else [])
    longest = max(picture.timings.total for _, picture in pictures)
    bars = "".join(_bar(name, picture, longest) for name, picture in pictures)
    head = "".join(f"<th scope='col'>{name}</th>" for name, _ in pictures)
    columns = [picture for _, picture in pictures]
    one = call(plain.settings)
    rows = [_row("", f"One {one}", [f"{p.evaluation_ms:.1f} ms" for p in columns], "unetmod-strong")]
    rows.append(_row("", f"{one}s", [_calls(p) for p in columns]))
    for part, name in PARTS:
        rows.append(_row(part, name, [_ms(getattr(p.timings, part)) for p in columns]))
    rows.append(_row("", "In total", [_ms(p.timings.total) for p in columns], "unetmod-strong"))
    if any(p.kept_bytes for p in columns):
        rows.append(_row("", f"Memory kept between {one}s", [_megabytes(p.kept_bytes) for p in columns]))
    return (
        f"<div class='unetmod-bars'>{bars}</div>"
        f"<table class='unetmod-times'><thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def headline(comparison: Comparison) -> str:
    """The gain and the distance as HTML figures, with a sentence under them that says how to read them."""
    apart = comparison.distance
    figures = [(f"{comparison.speedup:.2f}×", "as fast")]
    if apart.identical:
        figures.append(("identical", "pictures"))
        read = "Every pixel is the same."
    else:
        figures += [(f"{apart.psnr:.1f} dB", "PSNR"), (f"{apart.ssim:.3f}", "SSIM")]
        read = "How alike the pictures are: PSNR is higher for smaller differences, below 20 dB they show at a glance; "
        read += "SSIM is 1 for the same shapes and 0 for none in common."
    cells = "".join(f"<div><b>{value}</b><span>{name}</span></div>" for value, name in figures)
    return f"<div class='unetmod-figures'>{cells}</div><p class='unetmod-read'>{read}</p>"


def with_list(notes: Iterable[str], where: str) -> list[str]:
    """The notes, with the sentence `where` after the one about unknown words: it says where the known ones are listed."""
    return [f"{note} {where}" if note.startswith(UNKNOWN_WORDS) else note for note in notes]


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


def _calls(picture: Picture) -> str:
    if not picture.predicted:
        return str(picture.evaluations)
    return f"{picture.evaluations - picture.predicted} of {picture.evaluations} run"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"
