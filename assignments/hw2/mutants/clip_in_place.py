"""Scales the gradients that it was given."""
# kills: q3a


def clip(gradients, limit):
    norm = math.sqrt(sum(float(np.sum(np.square(g, dtype=np.float64))) for g in gradients))
    if norm > limit:
        for place in range(len(gradients)):
            gradients[place] *= limit / norm
    return gradients, norm
