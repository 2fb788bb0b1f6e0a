"""Part 5, memory audit: other models, counted with arrays where they are small."""

import numpy as np
import pytest

from autograder.compare import close


@pytest.mark.question("q5a")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_bytes_of_a_large_model_are_exact(student):
    """Large models, to the byte"""
    close(student.training_bytes(70_553_706_496, "adam"), 1_128_859_303_936)
    close(student.training_bytes(3, "momentum"), 36)
    close(student.training_bytes(123_456_789, "sgd"), 987_654_312)


@pytest.mark.question("q5b")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_the_cache_of_other_models(student, rng):
    """Other shapes: as large as the arrays of keys and values themselves"""
    for dtype in ("float16", "float32", "int8"):
        layers, heads, width, tokens, batch = (int(v) for v in rng.integers(1, 6, 5))
        keys = np.zeros((layers, batch, heads, tokens, width), dtype=dtype)
        given = (layers, heads, width, tokens, batch, keys.itemsize)
        close(student.kv_cache_bytes(*given), keys.nbytes + keys.nbytes)
    close(student.kv_cache_bytes(80, 8, 128, 131_072, 4, 2), 171_798_691_840)


@pytest.mark.question("q5c")
@pytest.mark.points(2)
@pytest.mark.hidden
def test_activations_by_moving_the_window(student, rng):
    """Convolutions of every geometry, by counting where the window fits"""
    for _ in range(8):
        kernel, stride, padding = int(rng.integers(1, 6)), int(rng.integers(1, 5)), int(rng.integers(0, 3))
        height, width = (int(v) for v in rng.integers(kernel, 20, 2))
        places = [len(range(0, size + 2 * padding - kernel + 1, stride)) for size in (height, width)]
        batch, channels, itemsize = (int(v) for v in rng.integers(1, 5, 3))
        expected = batch * channels * places[0] * places[1] * itemsize
        given = (batch, channels, height, width, kernel, stride, padding, itemsize)
        close(student.conv_output_bytes(*given), expected)
    scores = np.zeros((3, 5, 17, 17), dtype=np.float16)
    close(student.attention_scores_bytes(3, 5, 17, 2), scores.nbytes)


@pytest.mark.question("q5d")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_every_unit(student):
    """All nine units, with fractions"""
    for power, (decimal, binary) in enumerate(
        [("kB", "KiB"), ("MB", "MiB"), ("GB", "GiB"), ("TB", "TiB")], 1
    ):
        close(student.to_bytes(1.5, decimal), 1.5 * 10.0 ** (3 * power), rtol=1e-12)
        close(student.to_bytes(2.5, binary), 2.5 * 2.0 ** (10 * power), rtol=1e-12)
    close(student.to_bytes(17, "B"), 17)


@pytest.mark.question("q5e")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_verdicts_near_the_border(student):
    """Claims just inside and just outside of 2 %, and an empty list"""
    close(student.audit([]), [])
    claims = [("plain", {"count": 10**9}, amount, "MB") for amount in (980.2, 979.8, 1019.8, 1020.2)]
    claims += [("plain", {"count": 2**40}, 1, "TB"), ("plain", {"count": 2**40}, 1, "TiB")]
    verdicts = ["right", "too low", "right", "too high", "too low", "right"]
    close(student.audit(claims), list(zip([10**9] * 4 + [2**40] * 2, verdicts, strict=True)))
