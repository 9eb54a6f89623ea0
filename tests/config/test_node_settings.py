"""Settings of nodes: patterns, layers, and what a wrong one is told."""

from pathlib import Path

import pytest

from fftasks.config import NodeSettings, SettingOverride, load_settings
from fftasks.config.loader import check_override, list_env_secret_warnings, parse_override
from fftasks.config.node_settings import (
    NODE_SETTING_SPECS,
    combine_overrides,
    find_unmatched_patterns,
    list_env_inputs,
)
from fftasks.errors import SettingsError

LAYERED = """
workflows: [wf.py]
nodes:
  __default__:
    cpu: 1
    env: {A: 1, B: yes}
    pull_secrets: [regcred]
  "train.*":
    cpu: 500m
    env:
      B: "no"
  train_2:
    env: {}
"""


def write(folder, text, name="default"):
    (folder / "config" / f"{name}.yaml").write_text(text.lstrip("\n"))


def settle(folder, name, profile=None):
    layers = load_settings(folder, profile, environ={"NAME": "x"}).nodes
    return combine_overrides(layer for layer in layers if layer.matches(name))


def test_later_patterns_win_setting_by_setting_and_name_by_name(folder):
    write(folder, LAYERED)

    assert settle(folder, "load") == NodeSettings(
        cpu="1", env={"A": "1", "B": "yes"}, pull_secrets=("regcred",)
    )
    assert settle(folder, "train_1") == NodeSettings(
        cpu="500m", env={"A": "1", "B": "no"}, pull_secrets=("regcred",)
    )
    assert settle(folder, "train_2") == NodeSettings(cpu="500m", pull_secrets=("regcred",))


def test_a_pattern_is_for_whole_names(folder):
    write(folder, 'workflows: [wf.py]\nnodes: {"train": {gpu: 1}, "a|b": {gpu: 2}}\n')

    assert [settle(folder, name).gpu for name in ("train", "train_1", "b", "ab")] == [1, 0, 2, 0]


def test_each_value_knows_its_line(folder):
    write(folder, LAYERED)

    assert list(settle(folder, "train_1").describe()) == [
        "cpu: 500m (config/default.yaml:8)",
        "env.A: 1 (config/default.yaml:5)",
        "env.B: no (config/default.yaml:10)",
        "pull_secrets: regcred (config/default.yaml:6)",
    ]


def test_a_profile_beats_the_default_file_also_with_its_default(folder):
    write(folder, LAYERED)
    write(folder, "nodes: {__default__: {cpu: 8}}\n", "prod")

    assert settle(folder, "train_1", "prod").cpu == "8"


def test_variables_of_the_environment_are_filled_in(folder):
    write(folder, "workflows: [wf.py]\nnodes: {a: {volumes: {/data: '${NAME}-claim'}}}\n")

    assert settle(folder, "a").volumes == {"/data": "x-claim"}


def test_an_empty_section_and_an_empty_pattern_are_nothing(folder):
    write(folder, "workflows: [wf.py]\nnodes:\n  a:\n")

    assert load_settings(folder, environ={}).nodes == ()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("service_account: me", "no setting service_account.*kfp.service_account is for the whole"),
        ("cpuu: 1", "config/default.yaml:3: there is no setting cpuu for nodes.*did you mean cpu?"),
        ("gpu: many", "3: gpu must be an integer, at least 0, not 'many'"),
        ("gpu: -1", "3: gpu must be an integer, at least 0"),
        ("memory: 2 GB", "3: memory must be a string such as 500M or 2Gi, not '2 GB'"),
        ("cpu: [1]", "3: cpu must be a string such as .*, not a list"),
        ("pull_policy: always", "3: pull_policy must be one of.*did you mean Always?"),
        ("tolerations: ['a b']", r"tolerations\[0\] must be .*kubectl"),
        ("node_affinity: [zone in a]", r"node_affinity\[0\] must be"),
        ("secret_env: {A: password}", "secret_env.A must be a string such as {NAME: secret/key}"),
        ("volumes: {data: claim}", "volumes.data must be an absolute path in the container"),
        ("env: {A-B: 1}", "env.A-B is not a valid name of a variable"),
        ("env: {FFFUNCTION: 1}", "env.FFFUNCTION is set by fftasks"),
        ("env: {A: [1]}", "env.A must be a string, not a list"),
        ("env: {A: }", "env.A must be a string, not nothing"),
    ],
)
def test_a_wrong_setting_is_told_with_its_line(folder, line, message):
    write(folder, f'workflows: [wf.py]\nnodes: {{"a.*": {{\n{line}}}}}\n')

    with pytest.raises(SettingsError, match=rf"(?s){message}"):
        load_settings(folder, environ={})


def test_a_pattern_that_is_no_regular_expression_is_refused(folder):
    write(folder, 'workflows: [wf.py]\nnodes: {"*": {gpu: 1}}\n')

    with pytest.raises(SettingsError, match="is not a valid regular expression"):
        load_settings(folder, environ={})


def test_a_pattern_for_no_node_is_told_with_the_nearest_name(folder):
    write(folder, "workflows: [wf.py]\nnodes: {trian: {gpu: 1}, load: {gpu: 1}}\n")
    layers = load_settings(folder, environ={}).nodes

    assert list(find_unmatched_patterns(layers, ["train", "load"])) == [
        "config/default.yaml:2: no node's name matches 'trian'; did you mean 'train'?"
    ]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("train", "did you mean 'train.*'? It matches 'train 1', 'train 2', 'train 3' and 1 more"),
        ("train*", "did you mean 'train.*'? It matches 'train 1', 'train 2', 'train 3' and 1 more"),
        ("load_*", "did you mean 'load_.*'? It matches 'load_a'"),
        ("trian.*", "did you mean 'train 1', 'train 2' or 'train 3'?"),
        ("^Train 1$", "did you mean 'train 1'?"),
        (r"best \(all\)", "did you mean 'best (al)'?"),
        ("xyz|b", "did you mean '(xyz|b).*'? It matches 'best (al)'"),
        ("(?i)LOAD", "did you mean '(?i)LOAD.*'? It matches 'load_a'"),
        ("xyz", "the nodes are 'train 1', 'train 2', 'train 3' and 3 more"),
    ],
)
def test_a_pattern_for_no_node_gets_what_was_probably_meant(pattern, said):
    names = ["train 1", "train 2", "train 3", "train 40", "load_a", "best (al)"]

    (sentence,) = find_unmatched_patterns([SettingOverride(pattern, {}, "x.yaml:1")], names)

    assert said in sentence


def test_a_plain_value_that_looks_like_a_secret_is_warned_of(folder):
    write(folder, "workflows: [wf.py]\nnodes: {a: {env: {\nDB_PASSWORD: x,\nALPHA: 1}}}\n")

    (warning,) = load_settings(folder, environ={}).warnings

    assert warning.startswith("config/default.yaml:3: env.DB_PASSWORD looks like a secret")
    assert "secret_env: {DB_PASSWORD: secret/key}" in warning


def test_settings_in_code_are_those_of_the_file(folder):
    write(folder, "workflows: [wf.py]\nnodes: {a: {cpu: 2, env: {A: 1}, retries: 2, cache: no}}\n")

    coded = check_override(
        "a", {"cpu": 2, "env": {"A": 1}, "retries": 2, "cache": False}, "wf.py:3"
    )

    assert combine_overrides([coded]) == settle(folder, "a")
    assert set(combine_overrides([coded]).origins.values()) == {"wf.py:3"}


@pytest.mark.parametrize(
    "values",
    [{"cpus": 2}, {"retries": True}, {"retries": 1.5}, {"env": "A=1"}, {"labels": {"a": 1}},
     {"labels": {"a b": "c"}}, {"labels": {"a": "c d"}}, {"node_selector": {"A.b/c": "d"}},
     {"annotations": {"/x": "y"}},
     {"cache": 1}, {"pull_secrets": "x"}, {"timeout_s": -1}, {"volumes": {"data": "x"}}],
)  # fmt: skip
def test_a_wrong_setting_in_code_is_refused(values):
    with pytest.raises(SettingsError, match=r"^wf.py:3: "):
        check_override("a", values, "wf.py:3")


def test_a_layer_comes_back_from_the_graph_record():
    layer = check_override("a", {"tolerations": ["spot"], "env": {"MY_TOKEN": "x"}}, "wf.py:3")
    values = {key: value.value for key, value in layer.values.items()}
    values["tolerations"] = list(values["tolerations"])

    made = parse_override({"pattern": "a", "values": values, "origin": "wf.py:3"})

    assert made == layer
    assert list_env_secret_warnings([made])[0].startswith("wf.py:3: env.MY_TOKEN")


def test_only_the_environment_belongs_to_the_fingerprint():
    settings = NodeSettings(cpu="2", retries=3, env={"A": "1"})

    assert list(list_env_inputs(settings)) == ["env A"]
    assert list_env_inputs(settings) != list_env_inputs(NodeSettings(env={"A": "2"}))


def test_json_has_what_differs_from_the_defaults():
    settings = NodeSettings(cpu="2", tolerations=("spot",))

    assert NodeSettings().to_json() == {}
    assert settings.to_json() == {"cpu": "2", "tolerations": ["spot"]}


def test_every_setting_has_a_sentence():
    assert all(rule.says for rule in NODE_SETTING_SPECS.values())


def test_the_example_of_the_how_to_is_right(folder):
    page = Path(__file__).parents[2] / "docs" / "how-to" / "settings-of-nodes.md"
    block = page.read_text().partition(":caption: config/default.yaml\n")[2].partition("```")[0]
    write(folder, block.replace("training.py", "wf.py"))

    assert settle(folder, "train_1").gpu == 1
    assert settle(folder, "fetch").secret_env == {"DB_PASSWORD": "db/password"}
    assert load_settings(folder, environ={}).warnings == ()
