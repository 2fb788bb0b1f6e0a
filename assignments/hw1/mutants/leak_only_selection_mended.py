"""Mended halfway: missing values are still filled with the mean of their own label."""
# kills: q4c


def mended_score(x, y, k, fold):
    x = x.copy()
    for label in np.unique(y):
        x[y == label] = SimpleImputer(keep_empty_features=True).fit_transform(x[y == label])

    def fit_predict(x_train, y_train, x_test):
        return build_model(k).fit(x_train, y_train).predict(x_test)

    return float(np.mean(fold_scores(x, y, fold, fit_predict)))
