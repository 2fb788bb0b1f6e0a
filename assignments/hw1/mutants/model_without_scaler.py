"""Nothing is scaled: a column in larger units weighs more."""
# kills: q4a


def build_model(k):
    select, classify = SelectKBest(f_classif, k=k), LogisticRegression(max_iter=200)
    return Pipeline([("fill", SimpleImputer()), ("select", select), ("classify", classify)])
