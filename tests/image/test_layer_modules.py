"""A look into the layers of an image that was made without an engine."""

import json

from fftasks.image.check import list_requirement_modules
from fftasks.image.layers import LayerCache, make_file_entry
from fftasks.image.wheels import REQUIREMENTS_FOLDER


def test_modules_are_what_the_requirements_brought(tmp_path):
    blobs = LayerCache(tmp_path)
    paths = ("yaml/__init__.py", "six.py", "_ext.cpython-311.so", "PyYAML-6.dist-info/RECORD")
    ours = blobs.make_layer(
        [make_file_entry(path, b"") for path in paths], root=REQUIREMENTS_FOLDER, key="r"
    )
    code = blobs.make_layer([make_file_entry("wf.py", b"")], root="ffrun", key="c")
    digests = [ours.digest, code.digest, "sha256:" + "0" * 64]
    manifest = {"layers": [{"digest": digest} for digest in digests]}

    image = blobs.put(json.dumps(manifest).encode())

    assert list_requirement_modules(tmp_path, image) == {"yaml", "six", "_ext"}
