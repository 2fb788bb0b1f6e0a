"""Makes arrays and runs the program."""
# kills: q4a


def infer(program, inputs):
    arrays = {name: np.ones(shape, dtype) for name, (shape, dtype) in inputs.items()}
    values = []
    for place, (operation, given, options) in enumerate(program):
        try:
            if operation == "input":
                values.append(arrays[options["name"]])
            else:
                values.append(OPERATIONS[operation](*(values[i] for i in given), **options))
        except ValueError as error:
            raise ValueError(f"step {place}: {error}") from None
    return [(np.shape(v), np.asarray(v).dtype.name) for v in values]
