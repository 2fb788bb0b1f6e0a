"""Part 4, leaks: planted ones, by imputation, by scaling, by folds that are not numbered from zero."""

import numpy as np
import pytest

from autograder.compare import close


@pytest.mark.question("q4a")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_k_columns_matter_and_the_classifier_is_logistic(student, rng):
    """One column kept: the others and units change no prediction; the classifier is a logistic regression"""
    y = rng.permutation(np.arange(80) % 2)
    x = rng.normal(size=(80, 12))
    x[:, 5] += 6.0 * y
    model = student.build_model(1)
    model.fit(x * 1e-4, y)
    changed = x * 1e-4
    changed[:, np.arange(12) != 5] = rng.normal(size=(80, 11))
    predicted = np.asarray(model.predict(changed))
    assert np.mean(predicted == y) >= 0.9
    model.fit(x, 1 - y)  # a second fit forgets the first
    close(np.asarray(model.predict(x)), 1 - predicted)
    # A logistic regression: log odds on a line, and over the training rows a mean probability that is the
    # share of ones (the intercept's condition). Rows far off pull the variances of other classifiers.
    y = (np.arange(160) % 4 == 0).astype(int)
    x = rng.normal(size=(160, 2)) + (1.5 + 30.0 * (np.arange(160) % 40 == 0)[:, None]) * y[:, None]
    model = student.build_model(2)
    model.fit(x, y)
    line = np.array([[-1.0, 0.5]]) + np.linspace(0, 1, 5)[:, None] * np.array([[2.0, 1.0]])
    odds = np.asarray(model.predict_proba(line))
    assert odds.shape == (5, 2)
    assert np.all(odds > 0)
    close(np.diff(np.log(odds[:, 1] / odds[:, 0]), 2), np.zeros(3), atol=1e-6)
    close(np.mean(np.asarray(model.predict_proba(x))[:, 1]), 0.25, atol=0.02)


@pytest.mark.question("q4b")
@pytest.mark.points(2)
@pytest.mark.hidden
def test_rows_arrive_as_they_are(student, rng):
    """Uneven folds with odd numbers, labels that are text, rows untouched, one call for each fold"""
    x = rng.normal(size=(23, 3))
    x[:, 1:][rng.random((23, 2)) < 0.3] = np.nan
    y = np.array(["b", "m"])[rng.integers(0, 2, 23)]
    fold = np.array([-3, 10, 4])[rng.permutation(np.arange(23) % 5 // 2)]
    calls, rows = [], [row.tobytes() for row in x]

    def fit_predict(x_train, y_train, x_test):
        calls.append(([row.tobytes() for row in x_train], list(y_train), [row.tobytes() for row in x_test]))
        return np.full(len(x_test), "m")

    got = student.fold_scores(x, y, fold, fit_predict)
    close(got, np.array([np.mean(y[fold == f] == "m") for f in (-3, 4, 10)]), rtol=1e-9)
    assert len(calls) == 3
    for x_train, y_train, x_test in calls:
        assert sorted(x_train + x_test) == sorted(rows)
        assert [y[rows.index(row)] for row in x_train] == y_train


@pytest.mark.question("q4c")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_missing_values_tell_nothing_of_the_label(student, rng):
    """Most values missing: labels that mean nothing, that can be learned, that are turned round in one fold"""
    scores = []
    for _ in range(3):
        y, fold = rng.permutation(np.arange(80) % 2), rng.permutation(np.arange(80) % 2)
        x = rng.normal(size=(80, 30))
        x[rng.random(x.shape) < 0.6] = np.nan
        scores.append(student.mended_score(x, y, 30, fold))
    assert 0.33 <= float(np.mean(scores)) <= 0.65
    assert student.mended_score(x + 9.0 * y[:, None], y, 30, fold) >= 0.9
    # Each fold teaches the opposite of what holds in the other.
    assert student.mended_score(x + 9.0 * (y ^ fold)[:, None], y, 30, fold) <= 0.1


@pytest.mark.question("q4c")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_a_wild_test_row_does_not_spoil_training(student, rng):
    """A wild value in a test row leaves the training alone; the score is the mean over unequal folds"""
    y, fold = np.arange(60) % 2, (np.arange(60) // 2) % 2
    x = rng.normal(size=(60, 1)) * 0.3 + 2.0 * y[:, None]
    x[2:4] = np.nan  # two rows of fold 1, one of each label: a mean over all rows would be wild there
    clean = student.mended_score(x, y, 1, fold)
    assert clean >= 0.95
    x[0] = 1e9  # row 0 is tested in fold 0, where the model was trained on fold 1 alone
    wild = student.mended_score(x, y, 1, fold)
    assert 0.6 <= wild <= 0.9
    # Labels turned round, as many of each kind, cost a fold their share; another share each time.
    for turned in rng.permutation([4, 8, 12]).tolist():
        y, fold = np.arange(280) % 2, np.repeat([5, 2, 7], [40, 80, 160])
        x = 0.1 * rng.normal(size=(280, 6))
        x[:, 3] += 4.0 * y
        order, more = rng.permutation(280), 2 * int(rng.integers(1, 4))
        wrong = [*range(turned), *range(40, 40 + more)]
        y[wrong] = 1 - y[wrong]
        score = student.mended_score(x[order], y[order], 1, fold[order])
        close(score, 1 - (turned / 40 + more / 80) / 3, rtol=1e-9)


@pytest.mark.question("q4d")
@pytest.mark.points(2)
@pytest.mark.hidden
def test_groups_of_every_size(student, rng):
    """Names instead of numbers, one huge group, as many folds as groups"""
    cases = [(rng.integers(0, 30, 150), 5), (np.array([f"p{g}" for g in rng.integers(0, 9, 60)]), 4)]
    cases += [
        (np.repeat(np.arange(8), [10, 1] * 4), 2),  # dealt out in turn: 40 rows and 4
        (np.repeat(["d", "a", "c", "b", "f", "e"], [9, 1, 9, 1, 1, 9]), 2),
        (np.repeat(np.arange(9), [1, 1, 12] * 3), 3),
        (np.array([1] * 40 + [2, 3, 4, 5, 6, 7]), 3),
        (np.array([5, 6, 5, 8, 9]), 4),
        (np.array([3, 3, 3]), 1),
    ]
    for groups, n_folds in cases:
        fold = np.asarray(student.group_folds(groups, n_folds))
        assert fold.shape == groups.shape
        assert set(fold.tolist()) == set(range(n_folds))
        names, counts = np.unique(groups, return_counts=True)
        for name in names:
            assert len(set(fold[groups == name].tolist())) == 1
        sizes = np.bincount(fold, minlength=n_folds)
        assert sizes.max() - sizes.min() <= counts.max()
