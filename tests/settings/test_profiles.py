"""Profiles: what is kept of tuning, for which pictures it counts, and what becomes of files that cannot be read."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from unets import fresh

from lib_unetmod import inspect_unet
from lib_unetmod.core.target import Target
from lib_unetmod.core.upcoming_picture import UpcomingPass, UpcomingPicture
from lib_unetmod.settings.profiles import Profile, ProfileError, Profiles, TunedPass, read_file
from lib_unetmod.settings.speed_target import fitted, settled

PLAN = "FFPPFPFPFPFPFPFPFPFP"
METHODS = {"step_forecast": {"plan": PLAN}}


def picture(model="mine [abc]", names=("first",), **changes):
    def one(name):
        steps = changes.get("steps", 20)
        told = {"sampler": "Euler", "schedule": "uniform", "cfg": 7.0, **changes, "steps": steps}
        side = told.pop("side", 512)
        return UpcomingPass(name, Target(512, side, side), evaluations=tuple(n / steps for n in range(steps)), **told)

    return UpcomingPicture(inspect_unet(fresh("sd1")), tuple(map(one, names)), model)


def profile(word="2x", methods=METHODS, **of_picture):
    drawn = picture(**of_picture)
    return Profile(drawn.model, word, tuple(TunedPass.of(one) for one in drawn.passes), methods, {"time": 0.5})


@pytest.fixture
def profiles(tmp_path):
    return Profiles(tmp_path / "presets" / "tuned")


def test_what_is_kept_is_read_back_and_replaced_by_the_next_for_the_same_picture(profiles):
    assert profiles.nearest("2x", picture()) is None
    path = profiles.keep(profile())
    assert read_file(path) == profile() == profiles.nearest("2x", picture())
    other = profile(methods={"step_forecast": {"plan": PLAN[:-2] + "PF"}})
    assert profiles.keep(other) == path and Profiles(profiles.folder).nearest("2x", picture()) == other
    assert profiles.nearest("2x", picture()) == other and len([*profiles.folder.iterdir()]) == 1


def test_parts_that_were_chosen_for_each_step_are_for_as_many_steps(profiles):
    parts = {"skip_blocks": {"blocks": ["in.4.ff@0.5-1", "mid.attn"]}}
    profiles.keep(profile("1.3x", parts, steps=4))
    assert profiles.nearest("1.3x", picture(steps=4)) and profiles.nearest("1.3x", picture(steps=5)) is None
    found = fitted("1.3x", (), picture(steps=4), profiles)
    assert found.words == "1.3x: Skip blocks in.4.ff@0.5-1, mid.attn, tuned" and not found.sentence and not found.note


def test_where_fewer_steps_came_nearer_that_is_said(profiles):
    kept = profile("1.3x", {"skip_blocks": {"middle": True}}, steps=4)
    profiles.keep(replace(kept, measured={"error": 0.2, "fewer_steps": 0.1}))
    note = fitted("1.3x", (), picture(steps=4), profiles).note
    assert note == "When Speed 1.3x was tuned, fewer steps came nearer to the image of 4."


@pytest.mark.parametrize(
    "drawn",
    [
        picture("other [def]"),
        picture(""),
        picture(sampler="Euler a"),
        picture(schedule="karras"),
        picture(steps=41),
        picture(side=2048),
        picture(cfg=1.5),
        picture(names=("first", "hires")),
        picture(names=("img2img",)),
    ],
)
def test_it_says_nothing_of_other_pictures(profiles, drawn):
    profiles.keep(profile())
    assert profiles.nearest("2x", drawn) is None
    assert profiles.nearest("3x", picture()) is None
    assert "tuned" not in fitted("2x", (), drawn, profiles).words


def test_the_nearest_one_serves_and_that_is_said(profiles):
    profiles.keep(profile())
    profiles.keep(profile(steps=30, methods={"step_forecast": {"plan": "FPP" * 10}}))
    exact = fitted("2x", (), picture(), profiles)
    assert exact.words == "2x: 10 of 20 steps run, tuned" and exact.note == exact.sentence == ""
    assert exact.configs[0].plan == PLAN
    near = fitted("2x", (), picture(steps=28, cfg=6.0), profiles)
    assert near.configs[0].plan == "FPP" * 10 and near.words.startswith("2x: 9 of 28 steps run")
    assert near.note == "Speed 2x goes by what was tuned for 30 steps, CFG 7, 512x512."
    configs, told = settled({"speed": "2x", "free_u": {}}, lambda: picture(steps=22), profiles)
    assert [config.title for config in configs] == ["FreeU", "Step forecast"]
    assert told == ["Speed 2x goes by what was tuned for 20 steps, CFG 7, 512x512."]


def test_what_a_user_has_on_anyway_is_left_to_the_user(profiles):
    profiles.keep(profile(methods={**METHODS, "deep_cache": {}}))
    assert len(fitted("2x", (), picture(), profiles).configs) == 2
    beside = fitted("2x", {"deep_cache"}, picture(), profiles)
    assert beside.configs == fitted("2x", {"deep_cache"}, picture()).configs
    assert fitted("2x", {"step_forecast"}, picture(), profiles).configs == ()


@pytest.mark.parametrize(
    "text, wrong",
    [
        ("", "cannot be read as JSON"),
        ("[]", "it takes model, speed, passes and methods"),
        ("[" * 10000, "nested too deeply"),
        (profile().text.replace('"first"', '"third"'), "its passes cannot be read"),
        (profile().text.replace('"steps": 20', '"steps": "20"'), "its passes cannot be read"),
        (profile().text.replace('"steps": 20', '"steps": 20, "more": 1'), "its passes cannot be read"),
        (profile().text.replace('"cfg": 7.0', '"cfg": NaN'), "its passes cannot be read"),
        (profile().text.replace("step_forecast", "steps"), "There is no method"),
        (profile().text.replace(PLAN, "PF"), "must begin with F"),
        (json.dumps({"model": "a", "speed": "2x", "passes": [], "methods": {}}), "passes cannot be read"),
        (replace(profile(), methods={}).text, "it holds no method"),
        (" " * 20000, "is larger than the 16 KiB"),
    ],
)
def test_a_file_that_cannot_be_read_costs_a_sentence_and_no_other(profiles, text, wrong):
    profiles.keep(profile())
    damaged = profiles.folder / "damaged.json"
    damaged.write_text(text, "utf-8")
    with pytest.raises(ProfileError, match="The profile 'damaged.json' .*" + wrong):
        read_file(damaged)
    (problem,) = profiles.problems()
    assert wrong in problem and "\n" not in problem and problem.endswith(".")
    assert profiles.nearest("2x", picture()) == profile()
    assert settled({"speed": "2x"}, picture, profiles)[1] == [problem]


def test_where_it_cannot_be_written_that_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ProfileError, match="cannot be written to"):
        Profiles(tmp_path / "file").keep(profile())


@pytest.mark.parametrize("model", ["../../etc/x [1]", "a/b\\c:d [1]", "Modell äöü 模型 [1]", "x" * 500])
def test_a_models_name_leads_to_no_other_folder(profiles, model):
    path = profiles.keep(profile(model=model))
    assert path.parent == profiles.folder and path.is_file() and profiles.nearest("2x", picture(model)) is not None
