"""The model is trained on all rows, the test rows among them."""
# kills: q4b q4c


def fold_scores(x, y, fold, fit_predict):
    return np.array([np.mean(fit_predict(x, y, x[fold == f]) == y[fold == f]) for f in np.unique(fold)])
