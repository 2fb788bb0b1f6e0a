"""The first step of the warmup has the rate 0."""
# kills: q3c


def learning_rate(step, peak, warmup, total, floor):
    if step < warmup:
        return peak * step / warmup
    done = min((step - warmup) / (total - warmup), 1.0)
    return floor + (peak - floor) * (1 + math.cos(math.pi * done)) / 2
