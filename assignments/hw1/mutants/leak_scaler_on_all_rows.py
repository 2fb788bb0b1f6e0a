"""Mended but for one step: the scaler is still fitted on all rows."""
# kills: q4c


def mended_score(x, y, k, fold):
    x = StandardScaler().fit_transform(x)

    def fit_predict(x_train, y_train, x_test):
        steps = [("fill", SimpleImputer()), ("select", SelectKBest(f_classif, k=k))]
        model = Pipeline([*steps, ("classify", LogisticRegression(max_iter=200))])
        return model.fit(x_train, y_train).predict(x_test)

    return float(np.mean(fold_scores(x, y, fold, fit_predict)))
