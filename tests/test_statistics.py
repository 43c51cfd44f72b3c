from __future__ import annotations

import subprocess
import sys
from math import erfc, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qa_lora.scoring.statistics import (
    Difference,
    WinRate,
    holm,
    paired_bootstrap,
    paired_bootstraps,
    win_rate,
)

# --- bootstrap ---


def test_bootstrap_is_deterministic_and_brackets_the_mean():
    rng = np.random.default_rng(3)
    base = rng.random(200).tolist()
    tuned = (np.asarray(base) + rng.normal(0.1, 0.3, 200)).tolist()
    one, two = (paired_bootstrap(base, tuned, seed=5) for _ in range(2))
    assert one == two
    assert one.low < one.mean < one.high
    assert one.mean == pytest.approx(np.mean(np.subtract(tuned, base)))
    assert paired_bootstrap(base, tuned, seed=6) != one


def test_bootstrap_agrees_with_the_normal_approximation():
    rng = np.random.default_rng(0)
    gains = rng.normal(0.02, 0.2, 400)
    result = paired_bootstrap([0.0] * 400, gains.tolist())
    error = gains.std() / 20
    assert result.low == pytest.approx(gains.mean() - 1.96 * error, abs=0.1 * error)
    assert result.high == pytest.approx(gains.mean() + 1.96 * error, abs=0.1 * error)
    expected = erfc(abs(gains.mean() / error) / sqrt(2))
    assert result.p_value == pytest.approx(expected, abs=0.02)


def test_bootstrap_of_equal_systems_finds_nothing():
    assert paired_bootstrap([0.3] * 50, [0.3] * 50) == Difference(0.0, 0.0, 0.0, 1.0, 0.0)


def test_p_value_is_never_zero():
    assert paired_bootstrap([0.0] * 50, [1.0] * 50, resamples=999).p_value == 1 / 1000


def test_a_handful_of_questions_proves_little():
    assert paired_bootstrap([0.0], [1.0]).p_value == 1.0
    assert paired_bootstrap([0.0] * 4, [1.0] * 4).p_value == 2**-3


def test_bootstrap_turns_round():
    rng = np.random.default_rng(4)
    base, tuned = rng.random(60).tolist(), rng.random(60).tolist()
    there, back = paired_bootstrap(base, tuned), paired_bootstrap(tuned, base)
    assert (there.mean, there.low, there.high) == pytest.approx((-back.mean, -back.high, -back.low))
    assert there.p_value == pytest.approx(back.p_value)


def test_several_metrics_share_their_draws():
    rng = np.random.default_rng(7)
    base = {"x": rng.random(40).tolist(), "y": rng.random(40).tolist()}
    tuned = {"y": rng.random(40).tolist(), "x": rng.random(40).tolist()}
    together = paired_bootstraps(base, tuned)
    for name in base:
        alone = paired_bootstrap(base[name], tuned[name])
        assert vars(together[name]) == pytest.approx(vars(alone))


def test_chunks_do_not_change_the_draws(monkeypatch):
    rng = np.random.default_rng(8)
    base, tuned = rng.random(30).tolist(), rng.random(30).tolist()
    whole = paired_bootstrap(base, tuned)
    monkeypatch.setattr("qa_lora.scoring.statistics._CHUNK_CELLS", 1000)
    assert vars(paired_bootstrap(base, tuned)) == pytest.approx(vars(whole))


@pytest.mark.parametrize(
    ("base", "tuned"), [([], []), ([0.1], [0.1, 0.2]), ([0.1], [float("nan")])]
)
def test_bootstrap_refuses_what_is_no_pair(base, tuned):
    with pytest.raises(ValueError, match="score"):
        paired_bootstrap(base, tuned)


def test_bootstrap_wants_the_same_metrics():
    with pytest.raises(ValueError, match="same metrics"):
        paired_bootstraps({"a": [1.0]}, {"b": [1.0]})


def test_bootstrap_gives_the_interval_that_scipy_gives():
    """Two percentile bootstraps of the same gains differ by the luck of their draws alone."""
    from scipy.stats import bootstrap

    rng = np.random.default_rng(1)
    base = rng.beta(2, 5, 150)
    tuned = np.clip(base + rng.gamma(2.0, 0.1, 150) - 0.1, 0, 1)
    ours = paired_bootstrap(base.tolist(), tuned.tolist())
    theirs = bootstrap(
        (tuned - base,), np.mean, n_resamples=10_000, method="percentile", rng=rng
    ).confidence_interval
    # The standard deviation of a 2.5 % percentile of 10,000 normal draws is 0.027 of theirs.
    luck = 4 * sqrt(2) * 0.027 * (tuned - base).std() / sqrt(150)
    assert ours.low == pytest.approx(theirs.low, abs=luck)
    assert ours.high == pytest.approx(theirs.high, abs=luck)


def test_the_detectable_difference_is_found_four_times_in_five():
    rng = np.random.default_rng(5)
    gains = rng.normal(0.0, 0.3, 80)
    found = paired_bootstrap([0.0] * 80, gains.tolist()).detectable
    assert found == pytest.approx(2.8016 * gains.std(ddof=1) / sqrt(80), rel=1e-4)
    from scipy.stats import ttest_1samp

    samples = rng.normal(found, gains.std(ddof=1), (4000, 80))
    power = (ttest_1samp(samples, 0.0, axis=1).pvalue < 0.05).mean()
    assert power == pytest.approx(0.8, abs=0.03)


def test_one_question_cannot_say_what_it_could_detect():
    assert paired_bootstrap([0.0], [1.0]).detectable is None


# --- several at once ---


def test_holm_by_hand():
    # 4 x 0.01; then 3 x 0.02, 2 x 0.03 which is not below it; 0.04 must not fall below that.
    values = {"d": 0.04, "a": 0.01, "c": 0.03, "b": 0.02}
    expected = {"d": 0.06, "a": 0.04, "c": 0.06, "b": 0.06}
    assert holm(values) == pytest.approx(expected)
    assert list(holm(values)) == list(values)
    assert holm({"one": 0.03}) == {"one": 0.03}
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_only_raises_and_keeps_the_order(values):
    before = {str(i): p for i, p in enumerate(values)}
    after = holm(before)
    assert all(before[name] <= after[name] <= 1 for name in before)
    assert all(after[a] <= after[b] for a in before for b in before if before[a] <= before[b])


# --- votes ---


def test_win_rate_by_hand():
    # 8 of 10: Wilson's interval from its formula with z = 1.96; the sign test's two tails of
    # 8, 9 and 10 heads in 10 throws are 2 x 56 / 1024.
    found = win_rate(8, 2, 5)
    z, n, share = 1.959964, 10, 0.8
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    assert (found.share, found.decided) == (0.8, 10)
    assert (found.low, found.high) == pytest.approx((middle - half, middle + half), abs=1e-6)
    assert found.p_value == pytest.approx(2 * 56 / 1024)


def test_the_loser_sees_the_same_from_the_other_side():
    one, other = win_rate(3, 9), win_rate(9, 3)
    assert other.p_value == one.p_value
    assert (other.low, other.high) == pytest.approx((1 - one.high, 1 - one.low))


def test_ties_alone_decide_nothing():
    assert win_rate(0, 0, 7) == WinRate(0.5, 0.0, 1.0, 1.0, 0)
    assert win_rate(2, 1, 0) == win_rate(2, 1, 99)


def test_votes_cannot_be_negative():
    with pytest.raises(ValueError, match="negative"):
        win_rate(3, -1)


def test_statistics_loads_scipy_only_for_votes():
    code = (
        "import sys, qa_lora.scoring.statistics as s; s.paired_bootstrap([0, 1], [1, 0]);"
        "sys.exit('torch' in sys.modules or 'scipy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
