"""Settings: which there are, in which order their sources count, and which files build workflows."""

import dataclasses
import pickle
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import get_type_hints

import pytest
import yaml

from fftasks.config import SECTIONS, SETTING_SPECS, Settings, format_default_file, load_settings
from fftasks.errors import SettingsError

REPOSITORY = Path(__file__).parents[2]
DEFAULTS = dataclasses.replace(Settings(), workflows=("wf.py",))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "wf.py").touch()
    write(tmp_path, "workflows: [wf.py]\n")
    return tmp_path


def write(folder, text, profile="default"):
    (folder / "config" / f"{profile}.yaml").write_text(text)


def uncomment(text):
    return re.sub(r"^  # (\w+: )", r"  \1", text, flags=re.MULTILINE)


def get(settings, key):
    for part in key.split("."):
        settings = getattr(settings, part)
    return settings


def test_the_file_with_workflows_is_enough(folder):
    assert load_settings(folder, environ={}) == DEFAULTS


def test_later_ones_win_and_know_where_they_came_from(folder):
    write(folder, "workflows: [wf.py]\nkfp:\n  host: a\n  namespace: b\n  experiment: c\n")
    write(folder, "kfp:\n  namespace: B\n  experiment: C\n", "prod")

    settings = load_settings(folder, "prod", {"FFTASKS_KFP__EXPERIMENT": "E"})

    assert (settings.kfp.host, settings.kfp.namespace, settings.kfp.experiment) == ("a", "B", "E")
    assert settings.origin("kfp.host") == "config/default.yaml:3"
    assert settings.origin("kfp.namespace") == "config/prod.yaml:2"
    assert settings.origin("kfp.experiment") == "environment FFTASKS_KFP__EXPERIMENT"
    assert settings.origin("kfp.token") == "default"


@pytest.mark.parametrize("key", [key for key in SETTING_SPECS if key != "workflows"])
def test_each_setting_can_be_set_in_both_ways(folder, key):
    default = SETTING_SPECS[key].default
    example = SETTING_SPECS[key].example.rpartition(" ")[2]
    choice = next(
        word for word in (*SETTING_SPECS[key].choices, example or "fresh") if word != default
    )
    text, value = {
        str: (choice, choice),
        bool: (str(not default).lower(), not default),
        int: ("7", 7),
        float: ("1.5", 1.5),
        tuple: ("[a, b]", ("a", "b")),
        dict: ("{A: b}", {"A": "b"}),
    }[type(default)]
    section, _, name = key.partition(".")
    write(folder, f"{section}:\n  {name}: {text}\n", "prod")

    from_file = load_settings(folder, "prod", {})
    from_environment = load_settings(folder, None, {f"FFTASKS_{section}__{name}".upper(): text})

    assert get(from_file, key) == get(from_environment, key) == value
    assert from_file.origin(key) == "config/prod.yaml:2"
    assert from_file == from_environment != DEFAULTS


@pytest.mark.parametrize(
    ("argument", "variable", "host"),
    [
        (None, None, "default"),
        (None, "", "default"),
        (None, "prod", "prod"),
        ("dev", "prod", "dev"),
        ("default", None, "default"),
    ],
)
def test_the_profile_is_named_by_the_caller_else_by_the_environment(
    folder, argument, variable, host
):
    write(folder, "workflows: [wf.py]\nkfp: {host: default}\n")
    write(folder, "kfp: {host: prod}", "prod")
    write(folder, "kfp: {host: dev}", "dev")
    environ = {} if variable is None else {"FFTASKS_PROFILE": variable}

    assert load_settings(folder, argument, environ).kfp.host == host


def test_a_profile_replaces_a_list_as_a_whole(folder):
    write(folder, "workflows: [wf.py]\ncontext: {ignore: [a, b]}\n")
    write(folder, "context: {ignore: [c]}", "prod")

    assert load_settings(folder, "prod", {}).context.ignore == ("c",)


def test_without_a_file_the_environment_is_enough(tmp_path):
    (tmp_path / "wf.py").touch()

    settings = load_settings(tmp_path, environ={"FFTASKS_WORKFLOWS": "[wf.py]"})

    assert settings == DEFAULTS
    assert settings.origin("workflows") == "environment FFTASKS_WORKFLOWS"


def test_the_processes_own_environment_counts(folder, monkeypatch):
    monkeypatch.setenv("FFTASKS_KFP__HOST", "there")

    assert load_settings(folder).kfp.host == "there"


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("registry: {password: hunter2}", "registry.password"),
        ("kfp: {token: hunter2}", "kfp.token"),
        ("kfp: {cookies: a=hunter2}", "kfp.cookies"),
        ("image: {build_env: {PIP_INDEX_URL: 'https://u:hunter2@host'}}", "image.build_env"),
    ],
)
@pytest.mark.parametrize("profile", ["prod", "environment"])
def test_a_secret_in_a_file_works_with_a_warning(folder, line, key, profile):
    write(folder, f"\n{line}\n", profile)

    settings = load_settings(folder, profile, {})

    assert "hunter2" in str(get(settings, key))
    (warning,) = settings.warnings
    variable = f"FFTASKS_{key.replace('.', '__').upper()}"
    assert warning.startswith(
        f"config/{profile}.yaml:2: {key} is written in plain text in the file"
    )
    assert variable in warning
    assert "hunter2" not in warning + repr(settings)


@pytest.mark.parametrize(
    "line",
    [
        "registry: {password: '${PW}'}",
        "registry: {password: ''}",
        "registry: {username: me}",
        "image: {build_env: {PIP_INDEX_URL: 'https://host/simple'}}",
        "image: {build_env: {PIP_INDEX_URL: 'https://u:${PW}@host/simple'}}",
    ],
)
def test_what_is_no_secret_in_a_file_gives_no_warning(folder, line):
    write(folder, line, "prod")

    assert load_settings(folder, "prod", {"PW": "hunter2"}).warnings == ()


def test_a_secret_of_the_environment_gives_no_warning_and_is_not_shown(folder):
    secrets = {key for key, rule in SETTING_SPECS.items() if rule.secret} - {"image.build_env"}
    environ = {f"FFTASKS_{key.replace('.', '__').upper()}": "hunter2" for key in secrets}

    settings = load_settings(
        folder, environ={**environ, "FFTASKS_IMAGE__BUILD_ENV": "{A: hunter2}"}
    )

    assert {get(settings, key) for key in secrets} == {"hunter2"}
    assert settings.warnings == ()
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize("variables", [{}, {"FFTASKS_PROFILE": "prod"}])
def test_a_project_without_workflows_says_what_to_write(folder, variables):
    write(folder, "kfp: {host: x}\n")
    write(folder, "kfp: {host: y}\n", "prod")

    with pytest.raises(SettingsError, match=r"default\.yaml names no workflows") as caught:
        load_settings(folder, environ=variables)

    assert "workflows: [my_workflow.py]" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "profile", "variables", "where"),
    [
        ("workflows: []", None, {}, "config/default.yaml:1"),
        ("workflows:", None, {}, "config/default.yaml:1"),
        ("workflows: [wf.py]", "workflows: []", {}, "config/prod.yaml:1"),
        (
            "workflows: [wf.py]",
            None,
            {"FFTASKS_WORKFLOWS": "[]"},
            "environment FFTASKS_WORKFLOWS",
        ),
    ],
)
def test_an_empty_list_of_workflows_is_refused_where_it_stands(
    folder, text, profile, variables, where
):
    write(folder, text)
    if profile:
        write(folder, profile, "prod")

    with pytest.raises(SettingsError, match=f"^{where} names no workflows"):
        load_settings(folder, profile and "prod", variables)


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("wf.py", "wf.py"),
        ("./wf.py", "wf.py"),
        ("flows//../wf.py", "wf.py"),
        ("flows/day one.py", "flows/day one.py"),
        ("{folder}/flows/day one.py", "flows/day one.py"),
        ("../{name}/wf.py", "wf.py"),
        ("link.py", "link.py"),
    ],
)
def test_a_workflow_has_one_spelling_relative_to_the_folder(folder, written, path):
    (folder / "flows").mkdir()
    (folder / "flows" / "day one.py").touch()
    (folder / "link.py").symlink_to("wf.py")
    written = written.format(folder=folder, name=folder.name)
    write(folder, f"workflows:\n  - {written!r}\n")

    assert load_settings(folder, environ={}).workflows == (path,)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("wg.py", ["'wg.py' does not exist", "did you mean wf.py?"]),
        ("deep.py", ["'deep.py' does not exist", "did you mean flows/deep.py?"]),
        ("flow/deep.py", ["does not exist", "did you mean flows/deep.py?"]),
        ("hidden.py", ["does not exist", "relative to the folder of dodo.py"]),
        ("xyzzyqk.py", ["does not exist", "relative to the folder of dodo.py"]),
        ("wf", ["'wf' is not a Python file", "did you mean wf.py?"]),
        ("notes.txt", ["'notes.txt' is not a Python file"]),
        ("flows", ["'flows' is a folder"]),
        ("", ["'' is a folder"]),
        ("../outside.py", ["outside the project's folder"]),
        ("/etc/wf.py", ["outside the project's folder", "did you mean wf.py?"]),
        ("away.py", ["outside the project's folder"]),
    ],
)
def test_a_workflow_that_is_none_is_refused_at_its_line(tmp_path, written, said):
    folder = tmp_path / "project"
    for path in ("wf.py", "flows/deep.py", ".git/hidden.py", "env/pyvenv.cfg", "env/xyzzyqk.py"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    (tmp_path / "outside.py").touch()
    (folder / "away.py").symlink_to("../outside.py")
    (folder / "config").mkdir()
    write(folder, f"workflows:\n  - wf.py\n  - {written!r}\n")

    with pytest.raises(SettingsError, match=r"^config/default\.yaml:3: workflow") as caught:
        load_settings(folder, environ={})

    for words in said:
        assert words in str(caught.value)


def test_a_workflow_named_twice_is_refused_with_both_places(folder):
    write(folder, "workflows:\n  - wf.py\n  - ./wf.py\n")

    with pytest.raises(
        SettingsError, match=r"default\.yaml:3: workflow '\./wf\.py' is named"
    ) as caught:
        load_settings(folder, environ={})

    assert "before: config/default.yaml:2" in str(caught.value)


def test_each_workflow_knows_its_line(folder):
    (folder / "b.py").touch()
    write(folder, "workflows:\n  - wf.py\n  - b.py\n")

    assert load_settings(folder, environ={}).origin("workflows[1]") == "config/default.yaml:3"


def test_every_setting_has_a_sentence_and_a_default_of_its_type():
    hints = {"workflows": get_type_hints(Settings)["workflows"]}
    for section, kind in SECTIONS.items():
        hints |= {f"{section}.{name}": hint for name, hint in get_type_hints(kind).items()}
    kinds = {kind: kind for kind in (str, bool, int, float)}
    kinds |= {tuple[str, ...]: tuple, dict[str, str]: dict}

    assert SETTING_SPECS.keys() == hints.keys()
    for key, rule in SETTING_SPECS.items():
        assert kinds[hints[key]] is type(rule.default), key
        assert rule.says
        assert "\n" not in rule.says
        assert get(Settings(), key) == rule.default


def test_settings_can_be_sent_to_another_process(folder):
    settings = load_settings(folder, environ={})

    copy = pickle.loads(pickle.dumps(settings))

    assert copy == settings
    assert copy.origins == settings.origins


def test_the_repositorys_file_shows_every_setting():
    text = (REPOSITORY / "config" / "default.yaml").read_text()
    workflows = tuple(yaml.safe_load(text)["workflows"])

    assert workflows == ("docs/examples/sums/sums.py", "docs/examples/digits/digits.py")
    assert text == format_default_file(workflows)


def test_the_default_file_has_a_line_per_setting():
    lines = format_default_file().splitlines()

    for key, rule in SETTING_SPECS.items():
        name = key.rpartition(".")[2]
        assert sum(rule.says in line and (name in line or "." not in key) for line in lines) == 1
    assert max(map(len, lines)) <= 110


def test_the_default_file_says_the_defaults_commented_out_or_not(folder):
    write(folder, format_default_file(("wf.py",)))
    write(folder, uncomment(format_default_file(("wf.py",))), "prod")

    assert load_settings(folder, environ={}) == load_settings(folder, "prod", {}) == DEFAULTS
    assert load_settings(folder, environ={}).origin("kfp.host") == "default"
    assert all(":" in load_settings(folder, "prod", {}).origin(key) for key in SETTING_SPECS)


@pytest.mark.parametrize("key", [key for key in SETTING_SPECS if "." in key])
def test_one_line_of_the_default_file_can_be_uncommented_alone(folder, key):
    section, _, name = key.partition(".")
    before, header, after = format_default_file(("wf.py",)).partition(f"\n{section}:\n")
    write(folder, before + header + after.replace(f"  # {name}: ", f"  {name}: ", 1))

    settings = load_settings(folder, environ={})

    assert settings == DEFAULTS
    assert settings.origin(key).startswith("config/default.yaml:")


def test_importing_settings_does_not_import_yaml():
    code = "import sys, fftasks.config; sys.exit('yaml' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_loading_takes_milliseconds(folder):
    write(folder, uncomment(format_default_file(("wf.py",))))

    def measure():
        start = time.perf_counter()
        load_settings(folder, environ={"FFTASKS_KFP__HOST": "x"})
        return time.perf_counter() - start

    assert min(measure() for _ in range(5)) < 0.02
