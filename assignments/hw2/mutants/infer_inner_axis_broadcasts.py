"""matmul: lets an inner axis of 1 pass beside any other."""
# kills: q4a


def infer(program, inputs):
    known = []
    for place, (operation, given, options) in enumerate(program):
        shapes, dtypes = [known[i][0] for i in given], [known[i][1] for i in given]
        if operation == "input":
            shape, dtype = inputs[options["name"]]
        elif operation == "constant":
            shape, dtype = options["value"].shape, options["value"].dtype
        else:
            shape, dtype = shapes[0], np.result_type(*dtypes)
        try:
            if operation == "matmul":
                (*front, n, k), (*behind, same, m) = shapes
                if k != same and 1 not in (k, same):
                    raise ValueError(f"{k} columns times {same} rows")
                shape = (*np.broadcast_shapes(tuple(front), tuple(behind)), n, m)
            elif operation in ("sum", "mean", "max"):
                axis, ndim = options.get("axis"), len(shape)
                axes = range(ndim) if axis is None else [int(a) for a in np.atleast_1d(axis)]
                if any(not -ndim <= a < ndim for a in axes):
                    raise ValueError(f"axis {axis} of the shape {shape}")
                axes = [a % ndim for a in axes]
                sizes = [1 if i in axes else size for i, size in enumerate(shape)]
                keep = options.get("keepdims", False)
                shape = [size for i, size in enumerate(sizes) if keep or i not in axes]
            elif len(given) == 2:
                shape = np.broadcast_shapes(*shapes)
        except ValueError as error:
            raise ValueError(f"step {place}, {operation}: {error}") from None
        known.append((tuple(shape), np.dtype(dtype).name))
    return known
