"""Naive Bayes where a logistic regression is asked for."""
# kills: q4a


def build_model(k):
    from sklearn.naive_bayes import GaussianNB

    select, classify = SelectKBest(f_classif, k=k), GaussianNB()
    fill, scale = SimpleImputer(), StandardScaler()
    return Pipeline([("fill", fill), ("scale", scale), ("select", select), ("classify", classify)])
