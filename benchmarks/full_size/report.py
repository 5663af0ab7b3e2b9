"""docs/full_size.md: the results as tables."""

from __future__ import annotations

from benchmarks.full_size.results import Machine, Measured, Row

#: How many times as fast as tomesd token merging is to be, and for pictures of which side in pixels: latents of 128x128.
BAR, BAR_PIXELS = 1.15, 1024

TOP = """# Time and memory at full size

Written by `python -m benchmarks.full_size` from docs/full_size.json, which the same command fills; it goes on where it was
ended. U-Nets of true size with random weights, unless a checkpoint is named.

- *over plain*: time of an evaluation over the unmodified U-Net's, run in turn in one process: the median of the rounds'
  ratios, and the distance between their quartiles. Caches are timed over whole cycles; putting a method on and taking it off
  does not count.
- *predicted*: the ratio that the removed work leads to expect, from the time that each layer takes in a plain evaluation.
- *published*: the published code's time over the plain U-Net that it acts on. tomesd acts on the same U-Net as ours, the
  others on diffusers' classes with the same weights.
- *memory*: at its most over the plain U-Net's, weights not counted.

No picture was drawn: these figures say nothing about how pictures change.
"""
HEAD = "| method | over plain | ± | predicted | published | memory | ms | rounds |\n|---|---|---|---|---|---|---|---|"


def report(machines: dict[str, Machine]) -> str:
    """The page."""
    return "\n".join([TOP, *(_of_machine(name, one) for name, one in machines.items())])


def _of_machine(name: str, machine: Machine) -> str:
    versions = ", ".join(f"{package} {version}" for package, version in machine.versions.items())
    parts = [f"## {name}\n\n{versions}.\n"]
    parts += _token_merging(machine)
    parts += _mechanism(machine)
    parts += [_of_setup(setup, found) for setup, found in machine.setups.items()]
    return "\n".join(parts)


def _of_setup(name: str, measured: Measured) -> str:
    lines = [f"### {name}", ""]
    if measured.plain:
        lines += [
            "Plain: {milliseconds:.1f} ms an evaluation, of which the program takes {issue:.1f} ms until all of it is "
            "issued; {peak:.0f} MB at its most.".format(**measured.plain),
            "",
        ]
    lines += [HEAD, *(_line(row, found) for row, found in measured.rows.items()), ""]
    lines += [f"- {row}: {note}" for row, found in measured.rows.items() for note in _notes(found)]
    return "\n".join([*lines, ""] if lines[-1] else lines)


def _line(name: str, row: Row) -> str:
    return (
        f"| {name} | {_number(row.over_plain)} | {_number(row.spread)} | {_number(row.predicted)} "
        f"| {_number(row.published)} | {_number(row.peak, 2)} | {_number(row.milliseconds, 1)} | {row.rounds or ''} |"
    )


def _notes(row: Row) -> list[str]:
    return [
        *([f"not measured: {row.error}"] if row.error else []),
        *([f"{row.code} not measured: {row.published_error}"] if row.published_error else []),
        *([] if row.finite else ["the prediction has infinities or NaN."]),
    ]


def _number(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _token_merging(machine: Machine) -> list[str]:
    lines = []
    for setup, measured in machine.setups.items():
        for name, row in measured.rows.items():
            if row.code == "tomesd" and row.milliseconds and row.published_milliseconds:
                faster = row.published_milliseconds / row.milliseconds
                bar = "" if f"{BAR_PIXELS}x" not in setup else "yes" if faster >= BAR else "no"
                figures = f"{row.milliseconds:.1f} | {row.published_milliseconds:.1f} | {faster:.2f}"
                lines.append(f"| {setup} | {name} | {figures} | {bar} |")
    if not lines:
        return []
    head = f"| setup | method | ours, ms | tomesd, ms | tomesd over ours | at least {BAR} |\n|---|---|---|---|---|---|"
    return ["### Token merging beside tomesd, in the same rounds\n", head, *lines, ""]


def _mechanism(machine: Machine) -> list[str]:
    lines = [
        f"| {model} | {one['layers']:.0f} | {one['edits']:.0f} | {one['microseconds']:.0f} "
        f"| {one['microseconds'] / one['edits']:.2f} | {one['plain']:.1f} | {one['on_and_off']:.1f} |"
        for model, one in machine.mechanism.items()
    ]
    if not lines:
        return []
    columns = ("U-Net", "wrapped layers", "edits", "µs an evaluation", "µs an edit", "plain, ms", "on and off, ms")
    head = f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|"
    return ["### What edits cost that rest (five methods, outside their windows; the smallest latent)\n", head, *lines, ""]
