"""The table of stages in the docstring of fftasks.pipeline.stages."""

import re

from fftasks.pipeline import stages
from fftasks.project import STAGE_NEEDS


def test_table_lists_each_stage_with_the_records_that_it_reads():
    rows = re.findall(r"^    ([a-z]+) {2,}(.+?) {2,}.+$", stages.__doc__, re.MULTILINE)[1:]

    assert [name for name, _ in rows] == list(STAGE_NEEDS) == list(stages._STAGES)
    for name, reads in rows:
        assert set(STAGE_NEEDS[name]) <= set(re.findall(r"[a-z]+", reads)), name
