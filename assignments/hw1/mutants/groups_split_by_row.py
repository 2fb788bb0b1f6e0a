"""Rows are dealt out in turn, whatever their group."""
# kills: q4d


def group_folds(groups, n_folds):
    return np.arange(len(groups)) % n_folds
