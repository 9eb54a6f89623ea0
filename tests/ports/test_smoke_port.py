"""A look into the layers of an image that was made without an engine."""

import json

from fftasks.ports.smoke import list_modules
from fftasks.ports.wheels import FOLDER
from fftasks.stages.blob import Blobs
from fftasks.stages.layer import make_entry


def test_modules_are_what_the_requirements_brought(tmp_path):
    blobs = Blobs(tmp_path)
    paths = ("yaml/__init__.py", "six.py", "_ext.cpython-311.so", "PyYAML-6.dist-info/RECORD")
    ours = blobs.make_layer([make_entry(path, b"") for path in paths], root=FOLDER, key="r")
    code = blobs.make_layer([make_entry("wf.py", b"")], root="ffrun", key="c")
    digests = [ours.digest, code.digest, "sha256:" + "0" * 64]
    manifest = {"layers": [{"digest": digest} for digest in digests]}

    image = blobs.put(json.dumps(manifest).encode())

    assert list_modules(tmp_path, image) == {"yaml", "six", "_ext"}
