"""Fills missing values with the median, where the mean is asked for."""
# kills: q4a


def build_model(k):
    steps = [("fill", SimpleImputer(strategy="median")), ("scale", StandardScaler())]
    select, classify = SelectKBest(f_classif, k=k), LogisticRegression(max_iter=200)
    return Pipeline([*steps, ("select", select), ("classify", classify)])
