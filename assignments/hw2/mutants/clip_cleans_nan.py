"""Hides NaN as 0."""
# kills: q3a


def clip(gradients, limit):
    gradients = [np.nan_to_num(g) for g in gradients]
    norm = math.sqrt(sum(float(np.sum(np.square(g, dtype=np.float64))) for g in gradients))
    scale = limit / norm if norm > limit else 1.0
    return [(g * scale).astype(g.dtype) for g in gradients], norm
