"""Mended halfway: scaling moved into the folds, selection still sees all labels."""
# kills: q4c


def mended_score(x, y, k, fold):
    x = SelectKBest(f_classif, k=k).fit_transform(SimpleImputer().fit_transform(x), y)

    def fit_predict(x_train, y_train, x_test):
        model = Pipeline([("scale", StandardScaler()), ("classify", LogisticRegression(max_iter=200))])
        return model.fit(x_train, y_train).predict(x_test)

    return float(np.mean(fold_scores(x, y, fold, fit_predict)))
