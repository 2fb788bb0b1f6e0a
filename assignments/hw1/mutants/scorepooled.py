"""Pools the rows of all folds: a large fold weighs more than a small one."""
# kills: q4c


def mended_score(x, y, k, fold):
    right = 0
    for f in np.unique(fold):
        test = fold == f
        right += np.sum(build_model(k).fit(x[~test], y[~test]).predict(x[test]) == y[test])
    return float(right / len(y))
