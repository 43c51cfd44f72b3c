"""Whatever bytes a file holds, its reader gives rows or one sentence."""

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from benchmarks.reader_inputs import KINDS, inputs, read


@pytest.mark.parametrize("kind", KINDS)
def test_any_bytes_give_rows_or_one_sentence(tmp_path, kind):
    path = tmp_path / f"any{kind}"
    outcomes = set()

    @settings(
        max_examples=60,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs(kind))
    def check(data):
        path.write_bytes(data)
        outcomes.add(read(path) is None)

    check()
    assert outcomes == {True, False}, "the inputs were all alike"
