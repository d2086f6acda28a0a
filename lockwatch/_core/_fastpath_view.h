/* The view: `lock._state`, with the methods of the twin's dictionary. Part of _fastpath.c. */

static PyObject *hold_or(Mutex *m, PyObject *otherwise)
{
    PyObject *hold = current_hold(m);
    return hold != NULL ? hold : PyErr_Occurred() ? NULL : Py_NewRef(otherwise);
}

static PyObject *view_get(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    return hold_or(((View *)self)->lock, given > 1 ? args[1] : Py_None);
}

static int is_hold(PyObject *hold)
{
    if (PyTuple_Check(hold) && PyTuple_GET_SIZE(hold) >= 6)
        return 1;
    PyErr_SetString(PyExc_TypeError, "not a hold");
    return 0;
}

static PyObject *view_setdefault(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    Mutex *m = ((View *)self)->lock;
    PyObject *keeper, *hold = given == 2 ? args[1] : Py_None, *now = NULL;
    if (!is_hold(hold))
        return NULL;
    Record *r = record_of(PyTuple_GET_ITEM(hold, 0), &keeper);
    FENCE(); /* C5 */
    while (now == NULL && !PyErr_Occurred()) {
        if (claim(m, &transit)) {
            attach(m, r, hold);
            now = Py_NewRef(hold);
        } else
            now = current_hold(m);
    }
    Py_XDECREF(keeper);
    return now;
}

static int view_store(PyObject *self, PyObject *Py_UNUSED(key), PyObject *hold)
{
    Mutex *m = ((View *)self)->lock;
    PyObject *keeper, *old;
    if (hold == NULL) {
        old = detach(m);
        SET_OWNER(m, NULL);
    } else {
        if (!is_hold(hold))
            return -1;
        Record *r = record_of(PyTuple_GET_ITEM(hold, 0), &keeper);
        old = detach(m);
        attach(m, r, hold);
        Py_XDECREF(keeper);
    }
    Py_XDECREF(old);
    return 0;
}

static PyObject *view_pop(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    Mutex *m = ((View *)self)->lock;
    PyObject *hold = hold_or(m, given > 1 ? args[1] : Py_None);
    if (hold != NULL && view_store(self, NULL, NULL) < 0)
        Py_CLEAR(hold);
    return hold;
}

static Py_ssize_t view_length(PyObject *self) { return OWNER(((View *)self)->lock) != NULL; }

static int view_contains(PyObject *self, PyObject *Py_UNUSED(key)) { return OWNER(((View *)self)->lock) != NULL; }

static PyObject *view_repr(PyObject *self)
{
    PyObject *hold = hold_or(((View *)self)->lock, Py_None);
    PyObject *text = hold == NULL ? NULL : PyUnicode_FromFormat("{0: %R}", hold);
    Py_XDECREF(hold);
    return text;
}

static void view_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_DECREF(((View *)self)->lock);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyMethodDef view_methods[] = {
    {"get", (PyCFunction)(void (*)(void))view_get, METH_FASTCALL, NULL},
    {"setdefault", (PyCFunction)(void (*)(void))view_setdefault, METH_FASTCALL, NULL},
    {"pop", (PyCFunction)(void (*)(void))view_pop, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};
