"""Takes batch axes from the left factor alone."""
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
                if shapes[0][-1] != shapes[1][-2]:
                    raise ValueError("inner sizes differ")
                shape = (*shapes[0][:-1], shapes[1][-1])
            elif operation in ("sum", "mean", "max"):
                axis = options.get("axis")
                axes = range(len(shape)) if axis is None else [int(a) % len(shape) for a in np.atleast_1d(axis)]
                keep = options.get("keepdims", False)
                shape = [1 if i in axes else s for i, s in enumerate(shape) if keep or i not in axes]
            elif len(given) == 2:
                shape = np.broadcast_shapes(*shapes)
        except ValueError as error:
            raise ValueError(f"step {place}: {error}") from None
        known.append((tuple(shape), np.dtype(dtype).name))
    return known
