/* The engine's hot paths, an elementwise operation and the walk back, as an extension of CPython.
 *
 * Each is the short way of what stands in Python: `Unary` and `Binary` in rows.py, `walk` in tape.py. What is not
 * plain (an observer, an override, other dtypes, a recorded backward, an error) is left to them: they are the
 * specification, and what runs without a compiler. Arithmetic is NumPy's. Slots of tensors, nodes and rules are
 * read in place, at the offsets of their member descriptors; arrays as NumPy's binary interface lays them out.
 */
#include <Python.h>
#include <structmember.h>

typedef struct {
    PyObject_HEAD void *data;
    int axes;
    Py_ssize_t *shape, *strides;
    PyObject *base, *dtype;
} Array;

/* What is known of Python's side, in the order in which `needs` lists it. */
enum { FORWARD, JOINT, RULES, DATA, NODE, SERIAL, OP, EDGES, SHAPE, DTYPE, HOOKS, FUNCTION, POSITIONS, SLOTS };
static Py_ssize_t offset[SLOTS];
static struct {
    PyTypeObject *Unary, *Binary, *Tensor, *Node, *Rule, *ndarray, *ufunc, *list, *tuple;
    PyObject *float32, *float64, *array, *mode, *counter, *call_hooks, *add, *walk, *probe, *its_shape;
    PyObject *s_dict, *s_recording, *s_observer, *s_shape, *s_function;
} py;
static ternaryfunc python_call; /* how CPython calls what `__call__` names */

#define SLOT(object, name) (*(PyObject **)((char *)(object) + offset[name]))
#define IS(object, type) ((object) != NULL && Py_TYPE(object) == py.type)
#define DTYPE_OF(array) (((Array *)(array))->dtype)

/* Whether this is an array of this dtype and, as a tuple, this shape. */
static int is_like(PyObject *x, PyObject *dtype, PyObject *shape) {
    int axes = IS(x, ndarray) && DTYPE_OF(x) == dtype ? ((Array *)x)->axes : -1;
    if (!IS(shape, tuple) || PyTuple_GET_SIZE(shape) != axes) return 0;
    for (int i = 0; i < axes; i++)
        if (PyLong_AsSsize_t(PyTuple_GET_ITEM(shape, i)) != ((Array *)x)->shape[i]) return 0;
    return 1;
}

/* Forward: a function that returns null asks for the long way, which also meets the error again. */

/* What this thread has set of `mode`, or null. */
static PyObject *in_mode(PyObject *name) {
    static uint64_t thread;
    static PyObject *its;
    uint64_t now = PyThreadState_GetID(PyThreadState_Get());
    if (its == NULL || now != thread) Py_XSETREF(its, PyObject_GetAttr(py.mode, py.s_dict));
    thread = now;
    return its == NULL ? NULL : PyDict_GetItemWithError(its, name);
}

/* Fill the node of a result, pool = (out, x, y); parents are the nodes of x and y, or null. */
static int record(PyObject *node, PyObject *op, PyObject **parents, PyObject **pool, Py_ssize_t n) {
    PyObject *edges = SLOT(node, EDGES) = PyTuple_New((parents[0] != NULL) + (parents[1] != NULL));
    for (Py_ssize_t i = 0, j = 0, fits = 1; edges != NULL && i < n; i++) {
        PyObject *edge = parents[i] != NULL ? PyTuple_New(3) : NULL, *rules = SLOT(op, RULES);
        if (parents[i] == NULL) continue;
        if (edge == NULL || !IS(rules, list) || PyList_GET_SIZE(rules) != n) return 0;
        PyTuple_SET_ITEM(edges, j++, edge);
        PyObject *rule = PyList_GET_ITEM(rules, i), *positions = IS(rule, Rule) ? SLOT(rule, POSITIONS) : NULL;
        if (!IS(positions, tuple)) return 0;
        PyTuple_SET_ITEM(edge, 0, Py_NewRef(parents[i]));
        PyTuple_SET_ITEM(edge, 1, Py_NewRef(rule));
        Py_INCREF(positions);
        PyObject *values = PyTuple_New(PyTuple_GET_SIZE(positions)), *shape = SLOT(parents[i], SHAPE);
        for (Py_ssize_t k = 0; values != NULL && k < PyTuple_GET_SIZE(values); k++) {
            Py_ssize_t at = PyLong_AsSsize_t(PyTuple_GET_ITEM(positions, k));
            if (at < 0 || at > n) fits = 0;
            else PyTuple_SET_ITEM(values, k, Py_NewRef(pool[at]));
        }
        Py_DECREF(positions);
        PyTuple_SET_ITEM(edge, 2, values);
        if (values == NULL || !fits) return 0;
        PyObject_GC_UnTrack(values); /* of arrays alone, it is in no cycle */
        if (is_like(pool[0], DTYPE_OF(pool[0]), shape)) Py_XSETREF(SLOT(node, SHAPE), Py_NewRef(shape));
    }
    if (SLOT(node, SHAPE) == NULL) SLOT(node, SHAPE) = PyObject_GetAttr(pool[0], py.s_shape);
    SLOT(node, OP) = Py_NewRef(op);
    SLOT(node, DTYPE) = Py_NewRef(DTYPE_OF(pool[0]));
    SLOT(node, HOOKS) = Py_NewRef(Py_None);
    SLOT(node, SERIAL) = Py_TYPE(py.counter)->tp_iternext(py.counter);
    return edges != NULL && SLOT(node, SHAPE) != NULL && SLOT(node, SERIAL) != NULL;
}

/* The result of an operation on tensors, or on a tensor and a number. */
static PyObject *apply(PyObject *op, PyObject *args) {
    PyObject *held[6] = {NULL}, **pool = held, **parents = held + 3, *dtype = NULL, *node = Py_None, *result = NULL;
    PyObject *observer = in_mode(py.s_observer), *recording = in_mode(py.s_recording), *forward = SLOT(op, FORWARD);
    Py_ssize_t n = PyTuple_GET_SIZE(args), axes = 0;
    if (n < 1 || n > 2 || !IS(forward, ufunc) || SLOT(op, JOINT) != Py_None) return NULL;
    if (observer != NULL && observer != Py_None) return NULL;
    Py_INCREF(forward);
    for (Py_ssize_t k = 0; k < n; k++) { /* a tensor first: its dtype is the number's */
        Py_ssize_t i = IS(PyTuple_GET_ITEM(args, 0), Tensor) ? k : n - 1 - k;
        PyObject *x = PyTuple_GET_ITEM(args, i), *data = IS(x, Tensor) ? SLOT(x, DATA) : NULL, *number[] = {x, dtype};
        if (IS(data, ndarray) && (dtype == NULL || dtype == DTYPE_OF(data))) {
            pool[i + 1] = Py_NewRef(data);
            dtype = DTYPE_OF(data);
            axes |= ((Array *)data)->axes;
            if (dtype != py.float32 && dtype != py.float64) goto done;
            if (recording != Py_False && IS(SLOT(x, NODE), Node)) parents[i] = Py_NewRef(SLOT(x, NODE));
        } else if (axes > 0 && (PyFloat_CheckExact(x) || PyLong_CheckExact(x))) {
            pool[i + 1] = PyObject_Vectorcall(py.array, number, 2, NULL);
        }
        if (pool[i + 1] == NULL) goto done;
    }
    if (axes > 0) pool[0] = PyObject_Vectorcall(forward, pool + 1, n, NULL);
    if (!IS(pool[0], ndarray) || DTYPE_OF(pool[0]) != dtype) goto done;
    if (parents[0] != NULL || parents[1] != NULL) node = held[5] = PyType_GenericAlloc(py.Node, 0);
    if (node == NULL || (node == held[5] && !record(node, op, parents, pool, n))) goto done;
    if ((result = PyType_GenericAlloc(py.Tensor, 0)) == NULL) goto done;
    SLOT(result, DATA) = Py_NewRef(pool[0]);
    SLOT(result, NODE) = Py_NewRef(node);
done:
    for (int i = 0; i < 6; i++) Py_XDECREF(held[i]);
    Py_DECREF(forward);
    return result;
}

static PyObject *call(PyObject *op, PyObject *args, PyObject *kwargs) {
    PyObject *result = kwargs == NULL ? apply(op, args) : NULL;
    PyErr_Clear();
    return result != NULL ? result : python_call(op, args, kwargs);
}

/* Backward: hand g through one edge. Of `accumulate`, what most nodes need is here. */
static int hand_on(PyObject *grads, PyObject *owned, PyObject *edge, PyObject *g, PyObject *op) {
    PyObject *parent = PyTuple_GET_ITEM(edge, 0), *values = PyTuple_GET_ITEM(edge, 2), *part = NULL, *sum = NULL;
    PyObject *rule = PyTuple_GET_ITEM(edge, 1), *function = IS(rule, Rule) ? Py_XNewRef(SLOT(rule, FUNCTION)) : NULL;
    if (function == NULL) function = PyObject_GetAttr(rule, py.s_function);
    Py_ssize_t n = PyTuple_GET_SIZE(values), status = -1;
    PyObject *stack[n + 2]; /* the first is scratch of the call */
    stack[1] = g;
    for (Py_ssize_t i = 0; i < n; i++) stack[i + 2] = PyTuple_GET_ITEM(values, i);
    if (function != NULL)
        part = PyObject_Vectorcall(function, stack + 1, (n + 1) | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_XDECREF(function);
    if (part == NULL) return -1;
    int plain = IS(parent, Node) && is_like(part, SLOT(parent, DTYPE), SLOT(parent, SHAPE));
    plain = plain && SLOT(parent, OP) != Py_None;
    PyObject *before = plain ? Py_XNewRef(PyDict_GetItemWithError(grads, parent)) : NULL;
    if (plain && before == NULL) {
        status = PyDict_SetItem(grads, parent, part);
    } else if (plain && PySet_Contains(owned, parent) == 0) {
        sum = PyNumber_Add(before, part);
        if (sum != NULL && PyDict_SetItem(grads, parent, sum) == 0) status = PySet_Add(owned, parent);
    } else {
        sum = PyObject_CallFunctionObjArgs(py.add, grads, owned, parent, part, g, op, NULL);
        if (sum != NULL) status = 0;
    }
    Py_DECREF(part);
    Py_XDECREF(before);
    Py_XDECREF(sum);
    return status;
}

static PyObject *walk(PyObject *Py_UNUSED(self), PyObject *args, PyObject *kwargs) {
    static char *names[] = {"tape", "grads", "arrive", "wanted", "tracked", "free", NULL};
    PyObject *tape, *grads, *arrive, *wanted, *owned, *edges = NULL, *g = NULL;
    int tracked, free, done = 0;
    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "OOO$Opp", names, &tape, &grads, &arrive, &wanted, &tracked, &free)) return NULL;
    if (tracked || !PyDict_CheckExact(grads)) return PyObject_Call(py.walk, args, kwargs);
    int some = PyObject_IsTrue(wanted);
    tape = some < 0 ? NULL : PySequence_Tuple(tape);
    owned = PySet_New(NULL);
    for (Py_ssize_t i = 0; tape != NULL && owned != NULL && i < PyTuple_GET_SIZE(tape); i++) {
        PyObject *node = PyTuple_GET_ITEM(tape, i), *mine, *told;
        if (!IS(node, Node) || (g = Py_XNewRef(PyDict_GetItemWithError(grads, node))) == NULL) continue;
        int asked = some ? PySequence_Contains(wanted, node) : 0;
        if (asked < 0 || PyDict_DelItem(grads, node) < 0) goto failed;
        if (SLOT(node, HOOKS) != Py_None) Py_SETREF(g, PyObject_CallFunctionObjArgs(py.call_hooks, node, g, NULL));
        if (g == NULL) goto failed;
        if (asked || SLOT(node, OP) == Py_None) {
            mine = PySet_Contains(owned, node) > 0 ? Py_True : Py_False;
            if ((told = PyObject_CallFunctionObjArgs(arrive, node, g, mine, NULL)) == NULL) goto failed;
            Py_DECREF(told);
        }
        if ((edges = PySequence_Tuple(SLOT(node, EDGES))) == NULL) goto failed;
        for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(edges); k++) {
            PyObject *edge = PyTuple_GET_ITEM(edges, k);
            int right = IS(edge, tuple) && PyTuple_GET_SIZE(edge) == 3 && IS(PyTuple_GET_ITEM(edge, 2), tuple);
            if (!right) PyErr_SetString(PyExc_TypeError, "an edge of the tape is (parent, rule, tuple of values)");
            if (!right || hand_on(grads, owned, edge, g, SLOT(node, OP)) < 0) goto failed;
        }
        if (free && SLOT(node, OP) != Py_None) Py_XSETREF(SLOT(node, EDGES), Py_NewRef(Py_None));
        Py_CLEAR(edges);
        Py_CLEAR(g);
    }
    done = tape != NULL && owned != NULL;
failed:
    Py_XDECREF(tape);
    Py_XDECREF(owned);
    Py_XDECREF(edges);
    Py_XDECREF(g);
    return done ? Py_NewRef(Py_None) : NULL;
}

static PyMethodDef functions[] = {
    {"walk", (PyCFunction)(void (*)(void))walk, METH_VARARGS | METH_KEYWORDS, "See tape.py"}, {NULL, NULL, 0, NULL}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_dispatch", .m_size = -1, .m_methods = functions};

static const char *needs =
    "import numpy as np\n"
    "from mlsys_lab.autograd import rows, tape\n"
    "from mlsys_lab.autograd.primitive import Node as N, Primitive as P, Rule as R, Tensor as T\n"
    "def add(grads, owned, node, part, g, op): tape.accumulate(grads, owned, node, part, g, op.custom)\n"
    "slots = (P.forward, P.joint, P.rules, T.data, T.node, N.serial, N.op, N.edges, N.shape, N.dtype, N.hooks,\n"
    "         R.function, R.positions)\n"
    "objects = (rows.Unary, rows.Binary, T, N, R, np.ndarray, np.ufunc, list, tuple, np.dtype('f4'),\n"
    "           np.dtype('f8'), np.array, tape.mode, tape.serial.__self__, tape.call_hooks, add, tape.walk,\n"
    "           np.zeros((2, 3), 'f4'), (2, 3), '__dict__', 'recording', 'observer', 'shape', 'function')\n";

PyMODINIT_FUNC PyInit__dispatch(void) {
    PyObject *space = PyDict_New(), *ran = space == NULL ? NULL : PyRun_String(needs, Py_file_input, space, space);
    if (ran == NULL) return NULL;
    PyObject *slots = PyDict_GetItemString(space, "slots"), *objects = PyDict_GetItemString(space, "objects");
    memcpy(&py, PySequence_Fast_ITEMS(Py_NewRef(objects)), sizeof py);
    int fits = PyInterpreterState_Get() == PyInterpreterState_Main() && is_like(py.probe, py.float32, py.its_shape);
    for (int i = 0; i < SLOTS; i++) {
        PyObject *member = PyTuple_GET_ITEM(slots, i);
        if (Py_TYPE(member) != &PyMemberDescr_Type) fits = 0;
        else offset[i] = ((PyMemberDescrObject *)member)->d_member->offset;
    }
    if (!fits) return PyErr_SetString(PyExc_ImportError, "objects are laid out in another way here"), NULL;
    if (py.Unary->tp_call != call) python_call = py.Unary->tp_call;
    py.Unary->tp_call = py.Binary->tp_call = call;
    return PyModule_Create(&definition);
}
