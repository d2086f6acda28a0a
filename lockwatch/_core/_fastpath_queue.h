/* SimpleQueue: put and get that go straight to the C original while nobody has to wait. Part of _fastpath.c.

The class is in locks/simplequeue.py, where S1 to S3 stand; what is left here is done there. */

static struct {
    PyObject *put, *get_nowait, *empty; /* methods of the original, and its exception */
    Py_ssize_t getters;                 /* where an instance has its deque of getters: set when it is made, for good */
} original;

typedef PyObject *(*FastMethod)(PyObject *, PyObject *const *, Py_ssize_t, PyObject *); /* has no public name before 3.13 */

/* Call something with `self` before what was given. */
static PyObject *call_with(PyObject *callable, PyObject *self, PyObject *const *args, Py_ssize_t given, PyObject *names)
{
    PyObject *all[8];
    Py_ssize_t count = given + (names == NULL ? 0 : PyTuple_GET_SIZE(names));
    if (count >= (Py_ssize_t)(sizeof all / sizeof *all))
        return PyErr_Format(PyExc_TypeError, "too many arguments (%zd given)", count);
    all[0] = self;
    for (Py_ssize_t i = 0; i < count; i++)
        all[i + 1] = args[i];
    return PyObject_Vectorcall(callable, all, (size_t)given + 1, names);
}

/* The same for a method of the original, as the descriptor calls it: `self` is checked already. */
static inline PyObject *call_method(PyObject *method, PyObject *self, PyObject *const *args, Py_ssize_t given,
                                    PyObject *names)
{
    PyMethodDef *def = ((PyMethodDescrObject *)method)->d_method;
    if (LIKELY(def->ml_flags == (METH_FASTCALL | METH_KEYWORDS)))
        return ((FastMethod)(void (*)(void))def->ml_meth)(self, args, given, names);
    if (LIKELY(def->ml_flags == (METH_METHOD | METH_FASTCALL | METH_KEYWORDS)))
        return ((PyCMethod)(void (*)(void))def->ml_meth)(self, PyDescr_TYPE(method), args, (size_t)given, names);
    return call_with(method, self, args, given, names);
}

/* The item is in (S1): wake a getter, if there is one. */
static inline PyObject *after_put(PyObject *self)
{
    PyObject *getters = *(PyObject **)(void *)((char *)self + original.getters);
    FENCE();
    if (LIKELY(getters == NULL || LIST_SIZE(getters) == 0))
        Py_RETURN_NONE;
    PyObject *woken = PyObject_CallMethodNoArgs(self, core.str_wake), *kind, *value, *trace;
    if (woken == NULL) { /* interrupted: it is completed first */
        PyErr_Fetch(&kind, &value, &trace);
        Py_XDECREF(PyObject_CallMethodNoArgs(self, core.str_wake));
        PyErr_Restore(kind, value, trace);
    }
    return woken;
}

static PyObject *queue_put(PyObject *self, PyObject *const *args, Py_ssize_t given, PyObject *names)
{
    PyObject *done = call_method(original.put, self, args, given, names);
    if (UNLIKELY(done == NULL))
        return NULL;
    Py_DECREF(done);
    return after_put(self);
}

static PyObject *queue_get(PyObject *self, PyObject *const *args, Py_ssize_t given, PyObject *names)
{
    if (LIKELY(given == 0 && names == NULL)) {
        PyObject *item = call_method(original.get_nowait, self, NULL, 0, NULL);
        if (LIKELY(item != NULL) || !PyErr_ExceptionMatches(original.empty))
            return item;
        PyErr_Clear();
    }
    PyObject *slowly = PyObject_GetAttr((PyObject *)Py_TYPE(self), core.str_get_slowly);
    PyObject *item = slowly == NULL ? NULL : call_with(slowly, self, args, given, names);
    Py_XDECREF(slowly);
    return item;
}

#define DOC_PUT                                                                                                  \
    "put($self, /, item, block=True, timeout=None)\n--\n\nPut an item in. Never blocks; the other arguments are " \
    "there for queue.Queue's sake."
#define DOC_PUT_NOWAIT "put_nowait($self, /, item)\n--\n\nPut an item in."
#define DOC_GET                                                                                                 \
    "get($self, /, block=True, timeout=None)\n--\n\nTake the next item, waiting for one if need be.\n\nRaises " \
    "queue.Empty if there was none (in time), and DeadlockError if nobody is left who could put one in and this " \
    "thread is the victim; not with a time-out."

static PyMethodDef queue_methods[] = {
    {"put", (PyCFunction)(void (*)(void))queue_put, METH_FASTCALL | METH_KEYWORDS, DOC_PUT},
    {"put_nowait", (PyCFunction)(void (*)(void))queue_put, METH_FASTCALL | METH_KEYWORDS, DOC_PUT_NOWAIT},
    {"get", (PyCFunction)(void (*)(void))queue_get, METH_FASTCALL | METH_KEYWORDS, DOC_GET},
    {NULL, NULL, 0, NULL},
};

/* Give a class of queues the methods above: (class, put and get_nowait of the original, queue.Empty). */
static PyObject *specialise_queue(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyTypeObject *type;
    PyObject *put, *get_nowait, *empty;
    if (!PyArg_ParseTuple(args, "O!O!O!O", &PyType_Type, &type, &PyMethodDescr_Type, &put, &PyMethodDescr_Type,
                          &get_nowait, &empty))
        return NULL;
    if (find_slot(type, "_getters", &original.getters) < 0)
        return NULL;
    Py_XSETREF(original.put, Py_NewRef(put));
    Py_XSETREF(original.get_nowait, Py_NewRef(get_nowait));
    Py_XSETREF(original.empty, Py_NewRef(empty));
    return add_methods(type, queue_methods);
}
