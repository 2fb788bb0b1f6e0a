"""Rounds the output size up where the stride does not divide."""
# kills: q5c


def conv_output_bytes(batch, channels, height, width, kernel, stride, padding, itemsize):
    rows = math.ceil((height + 2 * padding - kernel) / stride) + 1
    columns = math.ceil((width + 2 * padding - kernel) / stride) + 1
    return batch * channels * rows * columns * itemsize
