"""What pip says when it fails, and what is made of it."""

from __future__ import annotations

import pytest

from fftasks.image import requirements as pip

REQUIREMENTS = (
    "# ours\nnumpy>=1\nScikit_Learn==9.9\n-r more.txt\nbar[extra]; python_version > '3'\n"
)


@pytest.mark.parametrize(
    ("said", "guilty", "tip"),
    [
        (
            [
                (
                    "ERROR: Could not find a version that satisfies the requirement scikit-learn==9.9"
                    " (from versions: 1.0, 1.1)"
                ),
                "ERROR: No matching distribution found for scikit-learn==9.9",
            ],
            ["requirements.txt line 3: Scikit_Learn==9.9"],
            "check the name",
        ),
        (
            ["ERROR: Could not find a version that satisfies the requirement foo (from bar)"],
            ["requirements.txt line 5: bar[extra]; python_version > '3'"],
            "the log",
        ),
        (
            [
                (
                    "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('"
                    "<x>: Failed to establish a new connection: [Errno -2] Name or service not known')'"
                ),
                "ERROR: No matching distribution found for numpy>=1",
            ],
            ["requirements.txt line 2: numpy>=1"],
            "index cannot be reached",
        ),
        (
            [
                "WARNING: Retrying after 'SSLError(SSLCertVerificationError(1, 'CERTIFICATE_VERIFY_FAILED"
            ],
            [],
            "image.ca_cert",
        ),
        (["ERROR: HTTP error 401 while getting https://x"], [], "image.build_env"),
        (["WARNING: 401 Error, Credentials not correct for https://x"], [], "image.build_env"),
        (["/usr/bin/python3: No module named pip"], [], "has no pip"),
        (
            ["ERROR: Could not install packages due to an OSError: No space left on device"],
            [],
            "disk",
        ),
        (
            [
                "ERROR: Failed building wheel for numpy",
                "ERROR: Could not build wheels for numpy, which",
            ],
            ["requirements.txt line 2: numpy>=1"],
            "compiler",
        ),
        (["ERROR: ResolutionImpossible: for help visit"], [], "loosen"),
        (["something new"], [], "the log"),
    ],
)
def test_failures(said, guilty, tip):
    found = pip.explain_pip_failure(said, {"requirements.txt": REQUIREMENTS})

    assert found[0] == guilty
    assert tip in found[1]


def test_environment_of_the_settings_has_the_last_word():
    env = pip.make_pip_environment({"PIP_CERT": "/mine", "X": "1"}, "/ours")

    assert (env["PIP_CERT"], env["SSL_CERT_FILE"], env["X"]) == ("/mine", "/ours", "1")
    assert "PIP_CERT" not in pip.make_pip_environment({}, "")
