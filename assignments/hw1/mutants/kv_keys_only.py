"""Counts the keys and forgets the values."""
# kills: q5b


def kv_cache_bytes(layers, kv_heads, head_dim, context, batch, itemsize):
    return layers * kv_heads * head_dim * context * batch * itemsize
