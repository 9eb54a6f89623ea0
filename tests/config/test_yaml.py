"""Values in YAML: what they are read as, and what of a secret is shown."""

import traceback

import pytest

from fftasks.config import load_settings
from tests.config.sample_settings import FIRST, refuse, write


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ('"5"', "5"),
        ("!!str 5", "5"),
        ("${A}", "a"),
        ("x${A}y${B}", "xay"),
        ("${N}", "12"),
        ("$${A}", "${A}"),
        ("$A $ {A} $$", "$A $ {A} $$"),
        ("${OTHER}", "${A}"),
        ("'a: #b'", "a: #b"),
        ("", "http://localhost:8080"),
        ("''", ""),
        ("|-\n    long\n    text", "long\ntext"),
    ],
)
def test_a_text_in_a_file(folder, text, value):
    write(folder, f"{FIRST}kfp:\n  host: {text}\n")

    settings = load_settings(folder, environ={"A": "a", "B": "", "N": "12", "OTHER": "${A}"})

    assert settings.kfp.host == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("30", 30.0), ("1.5", 1.5), ("1e3", 1000.0), ("1_000", 1000.0), ("${N}", 12.0), ("", 30.0)],
)
def test_a_number_in_a_file(folder, text, value):
    write(folder, f"{FIRST}kfp:\n  timeout_s: {text}\n")

    assert load_settings(folder, environ={"N": "12"}).kfp.timeout_s == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("No", False), ("off", False), ("${YES}", True), ("'${YES}'", True)],
)
def test_a_switch_in_a_file(folder, text, value):
    write(folder, f"{FIRST}kfp:\n  verify_ssl: {text}\n")

    assert load_settings(folder, environ={"YES": "yes"}).kfp.verify_ssl is value


def test_texts_in_lists_and_mappings_take_variables(folder):
    write(folder, "workflows: ['${W}.py']\nimage:\n  build_env: {A: 'x${W}', B: '$${W}'}\n")

    settings = load_settings(folder, environ={"W": "wf"})

    assert settings.workflows == ("wf.py",)
    assert settings.image.build_env == {"A": "xwf", "B": "${W}"}


def test_anchors_work(folder):
    write(folder, f"{FIRST}registry:\n  server: &host a.example\nkfp:\n  namespace: *host\n")

    settings = load_settings(folder, environ={})

    assert settings.kfp.namespace == "a.example"
    assert settings.origin("kfp.namespace") == "config/default.yaml:5"


@pytest.mark.usefixtures("_loader")
@pytest.mark.parametrize(
    "text",
    [
        "registry:\n  password: *hunter2\n",
        "registry:\n  password: !hunter2\n",
        "registry:\n  password: !hunter2 x\n",
        "registry:\n  password: !hunter2!x y\n",
        "registry:\n  password: !!bool hunter2\n",
        "registry:\n  password: @hunter2\n",
        "registry:\n  password: %hunter2\n",
        "registry:\n  password: |hunter2\n",
        "registry:\n  password: 'hunter2\n",
        "registry:\n  password: hunter2: x\n",
        "registry:\n  password: [hunter2]\n",
        "registry:\n  password: {hunter2}\n",
        "registry:\n  password: hunter2${\n",
        "registry: hunter2\n",
        "kfp:\n  token: [hunter2\n",
        "kfp:\n  cookies: &hunter2 [a]\n",
        "image:\n  build_env: hunter2\n",
        "image:\n  build_env: [hunter2]\n",
        "image:\n  build_env: {A: [hunter2]}\n",
        "image:\n  build_env: {A: !hunter2 x}\n",
        "image:\n  build_env: {A: *hunter2}\n",
    ],
)
def test_no_error_shows_a_secret_not_even_as_its_cause(folder, text):
    write(folder, FIRST + text)

    error = refuse(folder, environ={"PW": "hunter2"})

    assert "hunter2" not in "".join(traceback.format_exception(error))


def test_a_secret_number_is_asked_for_in_quotes_and_not_shown(folder):
    write(folder, f"{FIRST}registry:\n  password: 123456\n")

    error = refuse(folder)

    assert "default.yaml:3: registry.password must be a string\n" in str(error)
    assert "write it in quotes" in str(error)
    assert "123456" not in str(error)
