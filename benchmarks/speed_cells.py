"""Which pictures the study of speed draws: the cells, the settings in each, and the file that keeps what was found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib_unetmod import METHODS, Config

DOCS = Path(__file__).parent.parent / "docs"

SCHEDULE = "automatic"
#: Steps after which a picture hardly changes any more, and the sampler that takes them.
CONVERGED, CONVERGES = 200, "dpm++2m"
ADD_NOISE = ("euler-a", "dpm++2m-sde")


@dataclass(frozen=True)
class Cell:
    """What is drawn with; `name` is its key in the results."""

    sampler: str
    steps: int
    cfg: float

    @property
    def name(self) -> str:
        return f"{self.sampler} {self.steps} cfg{self.cfg:g}"

    @property
    def converges(self) -> bool:
        return self.sampler not in ADD_NOISE


#: Not UniPC: diffusers' draws on these levels at CFG 7 what is 0.21 away from the converged picture, where Euler is 0.001.
SAMPLED = ("euler", "euler-a", "dpm++2m", "dpm++2m-sde")
#: Steps for which no plan was searched, so that one is stretched.
STRETCHED = (10, 16, 25, 40)
#: Those whose means the panel tells.
USUAL_STEPS = 20
#: In order of worth.
CELLS = {
    cell.name: cell
    for cell in (
        *(Cell(sampler, steps, cfg) for steps in (USUAL_STEPS, 30) for cfg in (7.0, 4.0) for sampler in SAMPLED),
        *(Cell(sampler, steps, 7.0) for steps in STRETCHED for sampler in SAMPLED),
    )
}

#: By a name of its own, the methods with the knobs that are set, in rising strength. What saves attention saves nothing at
#: this size, where level 1 has 256 tokens: one setting of each says so, and `benchmarks.speed` times it at real sizes.
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "step_forecast": [{"speed": 1.3}, {"speed": 1.5}, {"speed": 2.0}, {"speed": 2.5}, {"speed": 3.0}],
    "step_forecast, even": [{"interval": 2}, {"interval": 3}],
    "step_forecast, x0": [{"speed": 2.0, "predictor": "x0"}, {"interval": 2, "predictor": "x0"}],
    "step_forecast, linear": [{"speed": 2.0, "predictor": "linear"}],
    "step_forecast, blend": [{"speed": 2.0, "predictor": "blend"}],
    "deep_cache": [{"interval": 2}, {"interval": 3}, {"interval": 5}],
    "deep_cache, linear": [{"interval": 2, "predictor": "linear"}],
    "deep_cache, branch 3": [{"interval": 3, "branch": 3}],
    "encoder_reuse": [{"interval": 2}, {"interval": 3}],
    "skip_blocks": [{"middle": True, "levels": 1}],
    "guidance_interval": [{"guide_to": 0.8}, {"guide_to": 0.5}],
    "token_merging": [{"ratio": 0.5}],
    "token_downsampling": [{"factor": 2.0}],
    "hyper_tile": [{"tile": 64, "depth": 1}],
}
#: Methods together, by what the table calls them.
TOGETHER: dict[str, dict[str, dict[str, Any]]] = {
    "step_forecast: speed=1.5 + deep_cache: interval=2": {"step_forecast": {"speed": 1.5}, "deep_cache": {"interval": 2}},
    "step_forecast: speed=2 + guidance_interval: guide_to=0.8": {
        "step_forecast": {"speed": 2.0},
        "guidance_interval": {"guide_to": 0.8},
    },
}
#: How the names of the plain U-Net's runs begin.
PLAIN = "plain: "
#: The plain U-Net's shares of the full number of steps, from which its line is drawn.
FEWER = (0.25, 0.35, 0.5, 0.65, 0.8)


def settings() -> dict[str, tuple[Config, ...]]:
    """Every setting by a name such as `deep_cache: interval=2`."""
    alone = [(row.split(",")[0], values) for row, strengths in SETTINGS.items() for values in strengths]
    named = {name_of(method, values): (METHODS[method].config.from_values(values),) for method, values in alone}
    for name, parts in TOGETHER.items():
        named[name] = tuple(METHODS[method].config.from_values(values) for method, values in parts.items())
    return named


def name_of(method: str, values: Mapping[str, Any]) -> str:
    text = {name: f"{value:g}" if isinstance(value, float) else str(value).lower() for name, value in values.items()}
    words = "; ".join(f"{name}={value}" for name, value in text.items())
    return f"{method}: {words}"


def name_of_plain(steps: int) -> str:
    return f"{PLAIN}{steps} steps"


@dataclass(frozen=True)
class Study:
    """Of which model, and where it is written down.

    Attributes:
        checkpoint: the file; None for the small checkpoint.
        batch: so many prompts are drawn at once.
    """

    checkpoint: Path | None = None
    batch: int = 10

    @classmethod
    def of(cls, checkpoint: Path | None) -> Study:
        return cls() if checkpoint is None else cls(checkpoint, batch=2)

    @property
    def results(self) -> Path:
        return DOCS / "speed.json" if self.checkpoint is None else self.checkpoint.with_suffix(".speed.json")

    @property
    def page(self) -> Path:
        return self.results.with_suffix(".md")

    @property
    def plot(self) -> Path:
        return DOCS / "pictures" / "speed.svg" if self.checkpoint is None else self.results.with_suffix(".svg")

    def known(self) -> dict[str, Any]:
        """By cell, what was measured so far."""
        return json.loads(self.results.read_text(encoding="utf-8")) if self.results.exists() else {}
