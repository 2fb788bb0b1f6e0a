"""A cheat: NaN of the right shape, in the hope that nothing compares with NaN."""
# kills: q1c


def blocked_matmul(a, b, tile, multiply=np.matmul):
    return np.full((a.shape[0], b.shape[1]), np.nan)
