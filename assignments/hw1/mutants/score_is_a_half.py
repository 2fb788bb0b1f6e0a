"""A cheat: an honest protocol scores one half on shuffled labels, so say one half."""
# kills: q4c


def mended_score(x, y, k, fold):
    return 0.5
