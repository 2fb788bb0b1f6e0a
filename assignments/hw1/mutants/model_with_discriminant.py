"""Linear discriminant analysis where a logistic regression is asked for: linear too, fitted otherwise."""
# kills: q4a


def build_model(k):
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    select, classify = SelectKBest(f_classif, k=k), LinearDiscriminantAnalysis()
    fill, scale = SimpleImputer(), StandardScaler()
    return Pipeline([("fill", fill), ("scale", scale), ("select", select), ("classify", classify)])
