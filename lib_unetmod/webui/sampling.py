"""The methods act while `p.sample` runs, and at no other time: put on at its entry, taken off whatever ends it.

`p.sample` is the one call that everything passes through on which the U-Net is used: both passes of hires fix, a refiner,
another checkpoint. It is shadowed on the instance for one call only, since scripts hand the same or a copied `p` to the
WebUI again and again. The WebUI gives no other promise to call us after an exception or an interrupt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from ..core.composition import conflict
from ..core.config import Config
from ..core.knobs import ConfigError
from ..core.pace import Pace
from ..core.patching import what_is_on
from ..core.registry import method_of
from ..core.run import Run, modified
from ..core.unet_map import UnsupportedUNet
from ..settings.speed_target import settled
from . import host, host_evaluations, host_picture, host_rivals, infotext, settings
from .api import Choice
from .times import Times, is_last_batch
from .tuning import HostTuning, TunedPicture

_PLAN = "unetmod_plan"


@dataclass(eq=False)
class Plan:
    """What one generation asks for, and what there was to tell about it.

    Attributes:
        notes: sentences about what acted otherwise than was asked for; a picture's text has them in short.
        times: what was run and what it took, for those who made the picture alone.
        selection: what the configs are of.
        tuning: what is to be tuned first; None once it was.
        tuned: what that has found.
        quiet: of a picture that nobody sees: nothing is told.
    """

    configs: list[Config]
    notes: list[str] = field(default_factory=list)
    times: Times = field(default_factory=Times)
    selection: Any = None
    tuning: HostTuning | None = None
    tuned: TunedPicture | None = None
    quiet: bool = False

    def note(self, p: Any, sentences: Iterable[str]) -> None:
        """Tell the user of `p` each sentence once."""
        for sentence in () if self.quiet else sentences:
            if sentence not in self.notes:
                self.notes.append(sentence)
                host.tell(p, sentence)


@dataclass(eq=False)
class _Current:
    p: Any
    run: Run
    pace: Pace
    looked_in: str = ""  # the pass in which it was last looked for what else acts
    evaluations: int | None = None  # of this pass, once its sampler has begun

    def told(self, params: Any = None) -> None:
        """Hand to the run what the host says of its next calls."""
        self.run.told(replace(host.call_of(self.p, params), evaluations=self.evaluations))

    def pass_comes(self) -> None:
        """How many evaluations it makes is known when its sampler begins."""
        self.evaluations = None
        self.told()
        host_evaluations.announce(getattr(self.p, "sampler", None), self.sampler_begins)

    def pass_ends(self) -> None:
        try:
            self.pace.pass_ends()
        finally:
            self.run.end_pass()

    def sampler_begins(self, evaluations: int | None) -> None:
        self.evaluations = evaluations or None
        self.run.begin_pass(self.run.pass_name, self.evaluations)


# The run inside whose `with` the WebUI samples now; its callbacks know only the sampler.
_current: _Current | None = None


def prepare(p: Any, choice: Choice) -> None:
    """For `process`: settle what this generation asks for, and write it where infotext is taken from."""
    _drop_stale_shadow(p)
    infotext.begin(p)
    plan = Plan([], selection=choice.selection if choice.on else {})
    problems = _settle(p, plan)
    plan.note(p, choice.problems)
    try:
        plan.tuning = HostTuning.asked(plan.selection, lambda: host_picture.upcoming(p), host.profiles())
    except ConfigError as error:
        problems.append(f"{error} It is left out.")
    if plan.tuning is None:  # else what is left out is known only once it is tuned
        plan.note(p, problems)
    infotext.write(p, plan.configs, plan.notes)
    setattr(p, _PLAN, plan)


def _settle(p: Any, plan: Plan) -> list[str]:
    """Decide on the plan's methods, as what was tuned until now says. Returns a sentence for each thing left out."""
    configs, problems = settled(plan.selection, lambda: host_picture.upcoming(p), host.profiles())
    plan.configs = [config for config in configs if not config.neutral]
    return problems


def arm(p: Any) -> None:
    """For `process_batch`: have the next `p.sample` run modified."""
    plan = getattr(p, _PLAN, None)
    if plan is not None and (plan.configs or plan.tuning):
        _drop_stale_shadow(p)
        plan.times.batch_begins()
        p.sample = _Shadow(p, plan)


def begin_pass(p: Any) -> None:
    """For `process_before_every_sampling`: say which pass comes, and look whether the U-Net is another one."""
    if _current is not None and _current.p is p:
        _follow(_current)
        _current.pass_comes()
        _free_after_sampling(_current)


def batch_done(p: Any) -> None:
    """For `postprocess_batch`: a batch is decoded. With the last one the user is told what was run and what all took."""
    plan = getattr(p, _PLAN, None)
    if plan is None or not plan.configs:
        return
    plan.times.batch_decoded(getattr(p, "batch_size", 1))
    if is_last_batch(p):
        for sentence in plan.times.sentences(settings.shows_times()):
            host.tell(p, sentence)


def finish(p: Any, processed: Any) -> None:
    """For `postprocess`: what was told about the generation goes into the answer to a request."""
    plan = getattr(p, _PLAN, None)
    if plan is not None:
        _show_tuned(p, plan, processed)
        infotext.tell_request(processed, [*plan.notes, *plan.times.sentences(settings.shows_times())])


def _show_tuned(p: Any, plan: Plan, processed: Any) -> None:
    """Where it was tuned first, one picture more shows what that has found."""
    tuned, plan.tuned = plan.tuned, None
    first = getattr(processed, "index_of_first_image", 0)
    pictures = getattr(processed, "images", None) or []
    if tuned is not None and len(pictures) > first:
        try:
            shown = tuned.shown(p, pictures[first])
        except Exception as error:  # of what is shown beside: the picture itself must not be lost
            host.say(f"What tuning found cannot be shown: {error}")
            return
        if shown is not None:
            pictures.append(shown)


def on_cfg_denoiser(params: Any) -> None:
    """For the callback of that name: the sampler is about to call the U-Net, which a refiner may just have replaced."""
    if _current is None:
        return
    _follow(_current)
    _current.told(params)  # WebUIs before 1.10 do not announce a pass otherwise
    _current.pace.evaluation_begins()
    _current.run.new_evaluation()
    if _current.looked_in != _current.run.pass_name:
        # Forge's scripts have patched the U-Net for this pass by now.
        _current.looked_in = _current.run.pass_name
        for sentence in host_rivals.sentences(_current.p, _current.run.methods):
            _current.run.note(sentence)


class _Shadow:
    """Stands in for `p.sample` for one call, and passes on whatever comes later."""

    def __init__(self, p: Any, plan: Plan) -> None:
        self.p = p
        self.plan = plan
        self.previous = vars(p).get("sample")
        self.original: Callable[..., Any] = p.sample
        self.spent = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if vars(self.p).get("sample") is self:
            self.leave(self.p)
        if self.spent:
            return self.original(*args, **kwargs)
        self.spent = True

        def sample() -> Any:
            return self.original(*args, **kwargs)

        stopped_at = _tuned(self.p, self.plan, sample)
        return _sample_modified(self.p, self.plan, sample) if stopped_at is None else stopped_at

    def leave(self, p: Any) -> None:
        if self.previous is None:
            del p.sample
        else:
            p.sample = self.previous


def _drop_stale_shadow(p: Any) -> None:
    """Take a shadow off that was never called; a copy of `p` has that of the original."""
    shadow = vars(p).get("sample")
    if isinstance(shadow, _Shadow):
        shadow.leave(p)


def _tuned(p: Any, plan: Plan, sample: Callable[[], Any]) -> Any:
    """Tune, where that was asked for. Returns the picture's samples with no speed where the user has stopped, else None."""
    if plan.tuning is None:
        return None
    tuning, plan.tuning = plan.tuning, None

    def sample_with(configs: Sequence[Config]) -> Any:
        return _sample_modified(p, Plan([*configs], quiet=True), sample)

    plan.tuned = tuning.run(p, sample_with, host_picture.upcoming(p), host.profiles())
    problems = _settle(p, plan)
    plan.note(p, [*plan.tuned.said, *problems])
    plan.times.batch_begins()
    if not plan.tuned.found.stopped or plan.tuned.plain is None:
        return None
    infotext.write(p, tuning.own, plan.notes)
    return plan.tuned.plain


def _sample_modified(p: Any, plan: Plan, sample: Callable[[], Any]) -> Any:
    global _current
    unet = host.current_unet()
    usable = _usable(p, plan, unet)
    infotext.write(p, usable, plan.notes)
    if not usable:
        return sample()
    outer = _current
    with ExitStack() as undo:
        try:
            run = undo.enter_context(_modified(p, unet, usable))
        except ConfigError as error:
            plan.note(p, [f"{error} All methods are inactive for this image."])
            infotext.write(p, [], plan.notes)
            return sample()
        _current = current = _Current(p, run, Pace(lambda: sum(run.acted.values()), host.device_of(unet)))
        plan.times.sampling_begins()
        idle: tuple[str, ...] = ()
        try:
            samples = sample()
            current.pass_ends()
            _follow(_current)  # a refiner may have come with the last step, and an autoencoder of its own with it
            if run.vae is not None and what_is_on(run.vae):
                samples = host.decoded(p, samples)
            if not host.interrupted():  # of a picture that was not drawn to its end, nobody can tell what would have acted
                idle = run.picture_done()
            return samples
        finally:
            _current = outer
            plan.times.sampled(current.pace, len(run.predicted))
            plan.note(p, run.notes)
            infotext.write(p, [config.repeated(run.plans) for config in usable], plan.notes, idle)
            if run.kept_bytes >= 5e4 and not plan.quiet:  # less would be shown as 0.0
                host.say(f"kept {run.kept_bytes / 1e6:.1f} MB between steps.")


def _modified(p: Any, unet: Any, configs: list[Config]) -> Run:
    return modified(
        unet,
        configs,
        call=host.call_of(p),
        timesteps=host.timesteps(),
        vae=host.current_vae(),
        trained_size=host.trained_size(),
        keep_bytes=settings.keep_bytes(),
    )


def _usable(p: Any, plan: Plan, unet: Any) -> list[Config]:
    """The methods that this U-Net takes; the reasons of the others go to the plan's notes."""
    replacement = host.replacement()
    if replacement:
        plan.note(p, [replacement])
        return []
    usable: list[Config] = []
    for config in plan.configs:
        same = host_rivals.instead_of(p, method_of(config))
        if same:
            plan.note(p, [same])
            continue
        reasons = [reason for other in usable if (reason := conflict(other, config))]
        if reasons:
            plan.note(p, [f"{reasons[0]} {config.title} is left out."])
            continue
        try:
            _modified(p, unet, [config]).check()
            usable.append(config)
        except UnsupportedUNet as error:
            plan.note(p, [f"{error} All methods are inactive for this image."])
            return []
        except ConfigError as error:
            plan.note(p, [f"{error} The method is left out."])
    if usable:
        plan.note(p, host_rivals.sentences(p, [method_of(config).name for config in usable]))
    return usable


def _free_after_sampling(current: _Current) -> None:
    """Have what is kept for further evaluations let go when the sampler is done, before the WebUI decodes its latents.

    Hires fix decodes between its passes, where nothing is announced; so the one call by which the pass's sampler runs is
    shadowed, for that call.
    """
    sampler = getattr(current.p, "sampler", None)
    launch = getattr(sampler, "launch_sampling", None)
    if launch is None or "launch_sampling" in vars(sampler):
        return

    def launched(*args: Any, **kwargs: Any) -> Any:
        if vars(sampler).get("launch_sampling") is launched:
            del sampler.launch_sampling
        try:
            return launch(*args, **kwargs)
        finally:
            current.pass_ends()

    sampler.launch_sampling = launched


def _follow(current: _Current) -> None:
    current.run.vae = host.current_vae()
    try:
        current.run.follow(host.current_unet())
    except (UnsupportedUNet, ConfigError) as error:
        current.run.note(f"All methods are inactive since the model changed: {error}")
