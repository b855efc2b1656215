"""Profiles: kept, read back, and refused where they do not hold."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from convatlas.engines.latency import estimate as estimates
from convatlas.engines.latency import profile as profiles
from convatlas.engines.latency.estimate import chosen, estimate, of_atlas, shipped_features
from convatlas.engines.latency.features import features
from convatlas.engines.latency.profile import Estimate, Key, Profile, here, load, save
from convatlas.errors import UserError
from convatlas.machine.facts import cores, flags, processor
from convatlas.tables import load as table

HERE = Key("onnxruntime", "fp32", 1, "1.32.0", processor(), flags(), cores())
PROFILE = Profile(HERE, {"3x3 macs": 1.0, "1x1 macs": 0.9, "launches": 2.0}, 0.8, 1.25, 200, 0, 2e-3)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVATLAS_CACHE", str(tmp_path))
    monkeypatch.setattr(profiles, "version", lambda engine: {"onnxruntime": "1.32.0", "openvino": "2026.4"}[engine])


def test_a_profile_is_read_as_it_was_saved() -> None:
    assert load(save(PROFILE)) == PROFILE
    assert here() == [PROFILE]


def test_each_machine_and_version_has_its_own_file() -> None:
    older = replace(PROFILE, key=replace(HERE, version="1.31.0"))
    assert save(older) != save(PROFILE)
    assert here() == [PROFILE]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "1.31.0"}, "was made with version 1.31.0, now 1.32.0; `convatlas calibrate`"),
        ({"flags": ("avx2", "fma")}, "was made with other instructions; `convatlas calibrate`"),
        ({"processor": "Another"}, "was made with processor Another, now "),
    ],
)
def test_a_stale_profile_is_said(change: dict[str, object], message: str) -> None:
    save(replace(PROFILE, key=replace(HERE, **change)))
    with pytest.raises(UserError, match=rf"^no profile holds here: the one of onnxruntime .*{message}"):
        here()


def test_without_a_profile_one_line_says_how_to_calibrate() -> None:
    with pytest.raises(UserError, match="without a profile of this machine; `convatlas calibrate`"):
        here()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"schema": 2}',
        '{"schema": 2, "key": {}, "seconds": {}, "low": 1, "high": 1, "chains": 1, "seed": 0}',
        '{"schema": 2, "key": 3, "seconds": [], "low": "x", "high": 1, "chains": 1, "seed": 0}',
    ],
)
def test_a_damaged_profile_is_said(text: str) -> None:
    file = save(PROFILE)
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"is damaged .*; delete it, and calibrate again$"):
        here()


def test_negative_factors_are_damage() -> None:
    file = save(PROFILE)
    record = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(record | {"low": -1}), encoding="utf-8")
    with pytest.raises(UserError, match="a number is negative or infinite"):
        load(file)


def test_another_schema_is_said() -> None:
    file = save(PROFILE)
    record = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(record | {"schema": 9}), encoding="utf-8")
    with pytest.raises(UserError, match="has schema 9"):
        load(file)


def test_an_estimate_by_hand() -> None:
    counts = table("resnet50")
    sums = features(counts.rows, counts.input)
    expected = sums["3x3 macs"] + 0.9 * sums["1x1 macs"] + 2 * sums["launches"]
    found = estimate("resnet50", PROFILE)
    assert (found.median_s, found.low_s, found.high_s) == pytest.approx((expected, 0.8 * expected, 1.25 * expected))
    assert estimate(counts, PROFILE) == found
    assert estimate("resnet50", PROFILE, batch=8).median_s > 7 * found.median_s


@pytest.mark.parametrize(("limit_s", "within"), [(0.009, False), (0.01, None), (0.011, None), (0.013, True)])
def test_a_limit_inside_the_interval_is_undecided(limit_s: float, within: bool | None) -> None:
    assert Estimate(0.0105, 0.0095, 0.012, 1, HERE).within(limit_s) is within


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        ((0.0123, 0.0101, 0.0149), "12 ms (10 to 15)"),
        ((0.00123, 0.00101, 0.00149), "1.2 ms (1.0 to 1.5)"),
        ((0.1234, 0.1, 0.15), "123 ms (100 to 150)"),
        ((0.00049, 0.0003, 0.0008), "under 1 ms"),
    ],
)
def test_an_estimate_in_words(seconds: tuple[float, float, float], text: str) -> None:
    assert str(Estimate(*seconds, 1, HERE)) == text


def test_the_whole_atlas_at_once_is_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(PROFILE, key=replace(HERE, engine="openvino"), seconds={"3x3 macs": 0.5, "launches": 9.0})
    monkeypatch.setattr(estimates, "index", lambda: ("resnet50", "lenet5", "vgg16"))
    found = of_atlas([PROFILE, other])
    for name in ("resnet50", "lenet5", "vgg16"):
        assert found[name] == min((estimate(name, p) for p in (PROFILE, other)), key=lambda e: e.median_s)
    monkeypatch.setattr(estimates, "load", lambda name: pytest.fail("the features were kept"))
    assert of_atlas([PROFILE, other]) == found


def test_kept_features_are_not_used_once_the_tables_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "index", lambda: {"lenet5": {}})
    monkeypatch.setattr(estimates, "digest_of_tables", lambda: "one")
    first = shipped_features()
    monkeypatch.setattr(estimates, "features", lambda rows, input: {"other": 1.0})
    assert shipped_features() == first
    monkeypatch.setattr(estimates, "digest_of_tables", lambda: "two")
    assert shipped_features() == {"lenet5": {"other": 1.0}}


def test_profiles_are_chosen_by_precision_engine_and_threads() -> None:
    int8 = replace(PROFILE, key=replace(HERE, precision="int8"))
    for one in (PROFILE, int8):
        save(one)
    assert chosen(None, "fp32", 1) == [PROFILE]
    assert chosen("onnxruntime", "int8", 1) == [int8]
    with pytest.raises(UserError, match=r"^no profile of openvino in fp32 on 2 threads holds here; there are onnxrun"):
        chosen("openvino", "fp32", 2)
