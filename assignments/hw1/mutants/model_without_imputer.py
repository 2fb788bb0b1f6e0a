"""Missing values reach the classifier."""
# kills: q4a q4c


def build_model(k):
    return Pipeline(
        [
            ("scale", StandardScaler()),
            ("select", SelectKBest(f_classif, k=k)),
            ("classify", LogisticRegression()),
        ]
    )
