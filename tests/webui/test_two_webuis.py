"""Two WebUIs that draw as one: what one sends of our arguments, the other reads as the same choice, and draws the same.

papuSpartan's stable-diffusion-webui-distributed sends the arguments of each always shown script, under its title, as a part
of a request to the other's API. Seeds count on from instance to instance, so each draws a part of the batch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import gradio as gr
import pytest
import torch
import webui_stubs
from contract import tests_of
from probe import probe_registered
from unets import call, fresh, inputs, sd1
from webui_stubs import P, generate, shared

from lib_unetmod import METHODS, Guidance, HostCall, modified
from lib_unetmod.core.config import knobs
from lib_unetmod.settings.selection import configs_of, selection_of
from lib_unetmod.webui import api, controls, settings
from lib_unetmod.webui.panel import TITLE, Panel

#: These draw at random, from the seed of the first picture of each batch; their pictures depend on how it is divided.
AT_RANDOM = {"hi_diffusion", "hyper_tile", "token_merging"}
each_method = pytest.mark.parametrize("name", METHODS)


@pytest.fixture(autouse=True)
def webui():
    webui_stubs.reset()
    settings.add_options()


def on_the_page(selection: dict[str, Any], on: bool = True) -> list[Any]:
    """What the controls of a real panel that shows this selection hand to the script, as gradio reads them back."""
    with gr.Blocks():
        panel = Panel(str, {})
        panel.render_switch()
        panel.render_accordion()
    shown = panel.values(on, selection)
    return [part.preprocess(part.postprocess(value)) for part, value in zip(panel.components, shown, strict=True)]


def sent(args: list[Any], title: str = TITLE) -> list[Any]:
    """Our arguments as the other instance's script gets them: by JSON, by title, as many as it has, None for the rest."""
    request = json.loads(json.dumps({"alwayson_scripts": {title: {"args": args}}}, allow_nan=False))
    (their_title,) = [one for one in request["alwayson_scripts"] if one.lower() == TITLE.lower()]
    given = request["alwayson_scripts"][their_title]["args"]
    count = 1 + sum(1 for _ in controls.arguments())
    return [*given[:count], *[None] * (count - len(given))]


def read(args: list[Any]) -> api.Choice:
    return api.read(args, settings.read())


def contract_selection(name: str) -> dict[str, Any]:
    """A method with knobs that differ from its defaults."""
    configs = [config for config in getattr(tests_of(name), "CONTRACT", ()) if selection_of([config])[name]]
    return selection_of(configs[:1] or [METHODS[name].config(end=0.5)])


@each_method
def test_the_pages_arguments_are_plain_json_and_read_back_as_the_same_choice(name):
    selection = contract_selection(name)
    args = on_the_page(selection)
    assert {type(value) for value in args} <= {bool, int, float, str}  # no None: the other's Settings would stand in
    choice = read(sent(args))
    assert choice == read(args) and choice.on and choice.problems == ()
    assert configs_of(choice.selection) == configs_of(selection)


def test_all_methods_and_none_of_them():
    everything = {name: {} for name in METHODS}
    assert read(sent(on_the_page(everything))).selection == everything
    assert read(sent(on_the_page({}, on=False))).on is False
    assert read(sent(on_the_page({}))).selection == {}


def test_what_the_page_sends_does_not_depend_on_the_others_settings():
    args = on_the_page({"free_u": {"b1": 1.1}})
    shared.opts.data |= {"unetmod_free_u_b1": 1.4, "unetmod_deep_cache": True, "unetmod_deep_cache_interval": 7}
    choice = read(sent(args))
    assert choice.selection == {"free_u": {"b1": 1.1}} and "deep_cache" not in choice.selection


@pytest.mark.parametrize("request_", ([{"free_u": {"b1": 1.1}, "deep_cache": {}}], [False], [True, None, None], []), ids=str)
def test_a_request_to_one_is_passed_on_as_it_came(request_):
    """A1111 fills up what a request leaves out with the stand-ins' None, which means "as Settings say" there and here."""
    filled = [*request_, *[None] * (1 + sum(1 for _ in controls.arguments()) - len(request_))]
    assert read(sent(filled)) == read(filled) == read(request_)


def test_the_title_may_be_written_otherwise():
    assert read(sent(on_the_page({"free_u": {}}), title=TITLE.lower())).selection == {"free_u": {}}


# Versions that are one release apart.


def test_an_instance_with_a_method_more_reads_what_the_older_one_sends():
    args = on_the_page({"free_u": {"b1": 1.1}})
    with probe_registered() as probe:
        known = sum(1 for _ in controls.arguments()) + 1
        assert known == len(args) + 1 + len(knobs(probe))
        settings.add_options()
        choice = read(sent(args))
        assert choice.on and choice.selection == {"free_u": {"b1": 1.1}} and choice.problems == ()


def test_an_instance_with_a_method_fewer_reads_what_the_newer_one_sends():
    with probe_registered():
        args = on_the_page({"free_u": {"b1": 1.1}, "probe": {"factor": 2.0}})
        assert read(args).selection == {"free_u": {"b1": 1.1}, "probe": {"factor": 2.0}}
    for given in (args, sent(args)):
        choice = read(given)
        assert choice.on and choice.selection == {"free_u": {"b1": 1.1}} and choice.problems == ()


def test_by_name_an_unknown_method_or_knob_is_noted_and_the_others_act():
    request = sent([{"free_u": {"b1": 1.1, "b9": 2}, "of_tomorrow": {"x": 1}, "skip_blocks": {"middle": True}}])
    p = P([fresh("sd1")], steps=1)
    generate(p, *request)
    assert "UNet Mod free u" in p.extra_generation_params and "UNet Mod skip blocks" in p.extra_generation_params
    said = " ".join(p.comments)
    assert "FreeU has no knob 'b9' in this version" in said and "There is no method 'of_tomorrow'" in said


# Pictures.


@dataclass(frozen=True)
class Batch:
    """Pictures of one request: the U-Net's rows are their prompts' and then their negative ones."""

    seeds: range

    def rows(self, timestep: float) -> dict[str, Any]:
        of_each = [inputs("sd1", batch=2, seed=10_000 * seed + int(timestep), timestep=timestep) for seed in self.seeds]
        return {
            key: None if one is None else torch.cat([row[key][half : half + 1] for half in (0, 1) for row in of_each])
            for key, one in of_each[0].items()
        }

    def drawn(self, unet: Any, selection: dict[str, Any]) -> torch.Tensor:
        """Of each evaluation, of prompts and negative ones, each picture (E, 2, N, C, H, W)."""
        configs, problems = configs_of(selection)
        assert problems == []
        host_call = HostCall(guidance=Guidance(1.0, (*range(len(self.seeds)),) * 2), seed=self.seeds[0])
        results = []
        with modified(unet, configs, call=host_call) as run:
            for timestep in (940, 920):
                run.new_evaluation()
                results.append(call(unet, self.rows(timestep)).unflatten(0, (2, -1)))
        return torch.stack(results)


@cache
def _plain() -> torch.Tensor:
    return Batch(range(5, 7)).drawn(sd1(), {})


@pytest.mark.in_turn(3)
@each_method
def test_two_instances_draw_together_what_one_draws_alone(name):
    unet, selection = sd1(), contract_selection(name)
    of_other = read(sent(on_the_page(selection))).selection
    whole = Batch(range(5, 7)).drawn(unet, selection)
    assert not torch.equal(whole, _plain())
    parts = [Batch(range(5, 6)).drawn(unet, selection), Batch(range(6, 7)).drawn(unet, of_other)]
    if name in AT_RANDOM:
        parts[1:] = [Batch(range(5, 6)).drawn(unet, of_other)]  # the same seed draws the same on the other, at least
        assert torch.equal(*parts)
        return
    torch.testing.assert_close(torch.cat(parts, 2), whole, rtol=1e-4, atol=1e-4)
