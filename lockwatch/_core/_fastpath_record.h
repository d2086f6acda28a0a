/* What an agent holds, as an object for Python. Part of _fastpath.c. */

/* ---- the record as an object ------------------------------------------------------------------------------------ */

static PyObject *record_object_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(named))
{
    RecordObject *self = (RecordObject *)type->tp_alloc(type, 0);
    if (self != NULL && (self->record = new_record()) == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void record_object_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Record *r = ((RecordObject *)self)->record;
    if (r != NULL && r->count == 0 && r->agent == NULL) { /* else it was not told of its end: left alone (C4) */
        drop_known(r);
        lock_guard(&records_guard);
        r->next_free = free_records;
        free_records = r;
        unlock_guard(&records_guard);
    }
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *record_held(PyObject *self, PyObject *Py_UNUSED(none)) { return held(((RecordObject *)self)->record); }

static PyObject *record_end(PyObject *self, PyObject *Py_UNUSED(none))
{
    Record *r = ((RecordObject *)self)->record;
    if (here.record == r) {
        here.record = NULL;
        here.state = NULL;
    }
    PyObject *left = held(r);
    lock_guard(&r->guard);
    PyObject *agent = r->agent;
    r->agent = NULL;
    unlock_guard(&r->guard);
    Py_XDECREF(agent);
    return left;
}

static PyObject *record_forget(PyObject *self, PyObject *Py_UNUSED(none))
{
    forget_chains(((RecordObject *)self)->record);
    Py_RETURN_NONE;
}

static PyObject *record_rest(PyObject *self, PyObject *Py_UNUSED(none))
{
    uint8_t *resting = &((RecordObject *)self)->record->resting;
    if (!__atomic_load_n(resting, __ATOMIC_RELAXED))
        __atomic_store_n(resting, 255, __ATOMIC_RELAXED);
    Py_RETURN_NONE;
}

static PyObject *record_set_segment(PyObject *self, PyObject *segment)
{
    long long number = PyLong_AsLongLong(segment);
    if (number == -1 && PyErr_Occurred())
        return NULL;
    ((RecordObject *)self)->record->segment = number;
    Py_RETURN_NONE;
}

static PyObject *record_count(PyObject *self, PyObject *Py_UNUSED(none))
{
    return PyLong_FromLong(__atomic_load_n(&((RecordObject *)self)->record->count, __ATOMIC_RELAXED));
}

static PyMethodDef record_methods[] = {
    {"count", record_count, METH_NOARGS, "Return how many locks are held."},
    {"set_segment", record_set_segment, METH_O, "Note in which segment the agent is (segments.py)."},
    {"rest", record_rest, METH_NOARGS, "Leave known what is known, and don't count it, for 255 times."},
    {"forget_chains", record_forget, METH_NOARGS, "Let the order of the locks held be looked at anew (lockorder.py)."},
    {"held", record_held, METH_NOARGS, "Return the holds in the order taken, as a list of (key, hold)."},
    {"end", record_end, METH_NOARGS, "The thread has ended: return what it still holds, and forget it (C7)."},
    {NULL, NULL, 0, NULL},
};
