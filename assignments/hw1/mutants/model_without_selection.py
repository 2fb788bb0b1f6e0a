"""All columns are kept, whatever k."""
# kills: q4a


def build_model(k):
    return Pipeline(
        [("fill", SimpleImputer()), ("scale", StandardScaler()), ("classify", LogisticRegression())]
    )
