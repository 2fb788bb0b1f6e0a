"""Groups are dealt out in turn, whatever their size."""
# kills: q4d


def group_folds(groups, n_folds):
    return np.unique(groups, return_inverse=True)[1] % n_folds
