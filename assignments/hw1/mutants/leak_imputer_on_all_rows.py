"""Mended but for one step: missing values are filled with means over all rows, test rows among them."""
# kills: q4c


def mended_score(x, y, k, fold):
    x = SimpleImputer(keep_empty_features=True).fit_transform(x)

    def fit_predict(x_train, y_train, x_test):
        return build_model(k).fit(x_train, y_train).predict(x_test)

    return float(np.mean(fold_scores(x, y, fold, fit_predict)))
