"""Part 4, leaks: what a protocol that is honest cannot do."""

import numpy as np
import pytest

from autograder.compare import close


def measured(rng, rows, columns, missing):
    """Rows of two kinds that differ in their first two columns; some values are missing."""
    y = rng.permutation(np.arange(rows) % 2)
    x = rng.normal(size=(rows, columns))
    x[:, :2] += 4.0 * y[:, None]
    x[rng.random(x.shape) < missing] = np.nan
    return x, y


@pytest.mark.question("q4a")
@pytest.mark.points(1)
def test_the_model_learns_from_rows_with_missing_values(student, rng):
    """Fitted on 80 rows with missing values, it is right on most new ones"""
    x, y = measured(rng, 140, 30, 0.1)
    model = student.build_model(2)
    model.fit(x[:80], y[:80])
    right = np.mean(np.asarray(model.predict(x[80:])) == y[80:])
    assert right >= 0.85, f"it is right on {right:.0%} of the new rows; 85 % is asked for"


@pytest.mark.question("q4a")
@pytest.mark.points(1)
def test_a_prediction_does_not_depend_on_its_neighbours(student, rng):
    """A row's prediction is the same alone and among others"""
    x, y = measured(rng, 100, 10, 0.2)
    model = student.build_model(3)
    model.fit(x[:60], y[:60])
    together = np.asarray(model.predict(x[60:]))
    shifted = x[60:].copy()
    shifted[1:] += 1000.0
    close(np.asarray(model.predict(shifted))[:1], together[:1])
    close(model.predict(x[60:70]), together[:10])


@pytest.mark.question("q4a")
@pytest.mark.points(1)
def test_a_missing_value_is_the_mean_and_units_do_not_matter(student):
    """A missing value counts as its column's mean over the training rows; units change no probability"""
    rng = np.random.default_rng(0)  # the same table each time, one in which a scaler tells for sure
    y = rng.permutation(np.arange(60) % 2)
    x = rng.exponential(size=(60, 3)) ** 2 + 3.0 * y[:, None]
    x[rng.permutation(60)[:12], 0] = np.nan
    model = student.build_model(3)
    model.fit(x, y)
    new = np.array([[np.nan, 1.0, 2.0], [np.nan, 0.2, 0.1]])
    filled = np.where(np.isnan(new), np.nanmean(x, axis=0), new)
    close(model.predict_proba(new), np.asarray(model.predict_proba(filled)), rtol=1e-9, input=new)
    units = np.array([1e-4, 1.0, 1e3])
    other = student.build_model(3)
    other.fit(x * units, y)
    probability = np.asarray(model.predict_proba(filled))
    close(other.predict_proba(filled * units), probability, atol=1e-3, input={"units": units, "x": filled})


@pytest.mark.question("q4b")
@pytest.mark.points(2)
def test_the_share_of_right_labels_in_each_fold(student):
    """Accuracies of a model that always says 1, fold by fold, an array of floats"""
    y, fold = np.array([1, 1, 0, 0, 1, 0, 0, 0]), np.array([0, 1, 0, 1, 2, 2, 2, 2])
    x = np.arange(16.0).reshape(8, 2)
    got = student.fold_scores(x, y, fold, lambda x_train, y_train, x_test: np.ones(len(x_test), dtype=int))
    close(got, np.array([0.5, 0.5, 0.25]), rtol=1e-9, input=(y, fold))
    asked = "fold_scores gives an array of floats (np.array of the list)"
    assert isinstance(got, np.ndarray), f"{asked}, got a {type(got).__name__}"
    assert got.dtype.kind == "f", f"{asked}, got an array of dtype {got.dtype}"


@pytest.mark.question("q4b")
@pytest.mark.points(1)
def test_no_test_row_is_trained_on(student):
    """The rows trained on and the rows predicted share nothing, and every row is tested once"""
    x, fold, tested = np.arange(20.0).reshape(10, 2), np.arange(10) % 3, []
    shared = []

    def fit_predict(x_train, y_train, x_test):
        shared.extend(set(map(tuple, x_train)) & set(map(tuple, x_test)))
        tested.extend(x_test[:, 0])
        return np.zeros(len(x_test), dtype=int)

    student.fold_scores(x, np.zeros(10, dtype=int), fold, fit_predict)
    assert not shared, f"{len(shared)} rows were trained on and tested in the same fold"
    close(np.sort(np.array(tested)), x[:, 0])


@pytest.mark.question("q4c")
@pytest.mark.points(2)
def test_shuffled_labels_score_at_chance(student, rng):
    """Shuffled labels score at chance; labels to be learned score the mean of three unequal folds"""
    scores = []
    for _ in range(3):
        y, fold = rng.permutation(np.arange(100) % 2), rng.permutation(np.arange(100) % 3)
        scores.append(student.mended_score(rng.normal(size=(100, 200)), y, 10, fold))
    mean = float(np.mean(scores))
    assert 0.36 <= mean <= 0.62, f"the mean accuracy is {mean:.2f}, and nothing can be learned here"
    # Two columns tell the label, but for some rows of fold 0, as many of each kind, whose labels are turned.
    order, turned = rng.permutation(120), 2 * int(rng.integers(1, 4))
    y, fold = np.arange(120) % 2, np.repeat([0, 1, 2], [20, 40, 60])
    x = rng.normal(size=(120, 20))
    x[:, 2:][rng.random((120, 18)) < 0.1] = np.nan
    x[:, :2] = 0.1 * x[:, :2] + 4.0 * y[:, None]
    y[:turned] = 1 - y[:turned]
    said = f"folds of 20, 40 and 60 rows are scored {1 - turned / 20:.2f}, 1 and 1"
    score = student.mended_score(x[order], y[order], 2, fold[order])
    close(score, (3 - turned / 20) / 3, rtol=1e-9, input=said)


@pytest.mark.question("q4d")
@pytest.mark.points(2)
def test_a_group_lies_in_one_fold(student):
    """Each patient's rows lie in one fold; folds are whole numbers from 0 and even in size"""
    # Dealt out in turn, the second case gives folds of 40 and 4 rows.
    uneven = np.repeat(np.arange(8), [10, 1] * 4)
    for groups, n_folds, largest in [(np.array([7, 3, 7, 1, 1, 3, 9, 4, 4, 4, 9, 7]), 3, 3), (uneven, 2, 10)]:
        given = student.group_folds(groups, n_folds)
        assert given is not None, "group_folds returned None (is there a return?)"
        fold, asked = np.asarray(given), f"group_folds({groups.tolist()}, {n_folds})"
        assert fold.shape == groups.shape, f"{asked}: one fold for each row, got shape {fold.shape}"
        found = sorted(set(fold.tolist()))
        assert found == list(range(n_folds)), f"{asked}: the folds are 0 to {n_folds - 1}, got {found}"
        split = [g for g in np.unique(groups) if len(set(fold[groups == g].tolist())) > 1]
        assert not split, f"{asked}: the rows of patient {split[0] if split else ''} lie in several folds"
        sizes = np.bincount(fold)
        assert sizes.max() - sizes.min() <= largest, (
            f"{asked}: the folds have {sizes.tolist()} rows; they may differ by the largest group, {largest}"
        )
