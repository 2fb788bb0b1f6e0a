"""A float64 factor turns float32 gradients into float64."""
# kills: q3a


def clip(gradients, limit):
    norm = math.sqrt(sum(float(np.sum(np.square(g, dtype=np.float64))) for g in gradients))
    scale = np.float64(limit / norm if norm > limit else 1.0)
    return [g * scale for g in gradients], norm
