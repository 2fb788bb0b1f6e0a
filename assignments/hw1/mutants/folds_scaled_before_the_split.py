"""Columns are centred over all rows before the split."""
# kills: q4b


def fold_scores(x, y, fold, fit_predict):
    x = (x - np.nanmean(x, axis=0)) / np.nanstd(x, axis=0)
    scores = []
    for f in np.unique(fold):
        test = fold == f
        scores.append(np.mean(fit_predict(x[~test], y[~test], x[test]) == y[test]))
    return np.array(scores)
