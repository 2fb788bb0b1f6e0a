"""Part 5, memory audit: bytes worked out by hand."""

import pytest

from autograder.compare import close


@pytest.mark.question("q5a")
@pytest.mark.points(2)
def test_bytes_of_training_a_small_model(student):
    """A thousand parameters with each optimizer"""
    for optimizer, size in [("sgd", 8000), ("momentum", 12000), ("adam", 16000)]:
        close(student.training_bytes(1000, optimizer), size, input=(1000, optimizer))


@pytest.mark.question("q5b")
@pytest.mark.points(2)
def test_bytes_of_a_small_cache(student):
    """A cache of two layers, and that of one token in a larger model"""
    for given, size in [((2, 3, 4, 5, 1, 2), 480), ((40, 8, 128, 1, 1, 2), 163_840)]:
        close(student.kv_cache_bytes(*given), size, input=given)


@pytest.mark.question("q5c")
@pytest.mark.points(2)
def test_bytes_of_activations(student):
    """Two convolutions and one layer's attention scores"""
    for given, size in [((1, 2, 5, 5, 3, 1, 0, 4), 72), ((2, 8, 32, 32, 3, 2, 1, 2), 8192)]:
        close(student.conv_output_bytes(*given), size, input=given)
    close(student.attention_scores_bytes(2, 4, 100, 2), 160_000, input=(2, 4, 100, 2))


@pytest.mark.question("q5d")
@pytest.mark.points(1)
def test_units_in_bytes(student):
    """Powers of 1,000 and of 1,024, and B alone"""
    for amount, unit, size in [(3, "B", 3), (2, "kB", 2000), (1, "KiB", 1024), (4, "GB", 4 * 10**9)]:
        close(student.to_bytes(amount, unit), size, rtol=1e-12, input=(amount, unit))


@pytest.mark.question("q5e")
@pytest.mark.points(2)
def test_verdicts_on_three_claims(student):
    """A claim that holds, one too low and one too high"""
    table = {"rows": 1000, "columns": 10, "itemsize": 8}
    claims = [("table", table, size, "B") for size in (80_000, 40_000, 81_920)]
    close(student.audit(claims), [(80_000, "right"), (80_000, "too low"), (80_000, "too high")], input=claims)
