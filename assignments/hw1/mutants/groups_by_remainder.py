"""The group's number modulo the folds: uneven, and it needs numbers."""
# kills: q4d


def group_folds(groups, n_folds):
    return np.asarray(groups) % n_folds
