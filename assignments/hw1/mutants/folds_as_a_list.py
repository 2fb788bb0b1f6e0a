"""Gives a list where an array is asked for."""
# kills: q4b


def fold_scores(x, y, fold, fit_predict):
    folds = sorted(set(np.asarray(fold).tolist()))
    return [
        float(np.mean(fit_predict(x[fold != f], y[fold != f], x[fold == f]) == y[fold == f])) for f in folds
    ]
