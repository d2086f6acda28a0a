/* The turn of a semaphore with one permit (locks/turns.py): a lock that is taken on behalf of a caller further up. Part of
_fastpath.c. */

/* take_for_caller(by_with, waits): take the lock for the first caller that is not machinery, learning the order of what is
   held if it would have waited; False if that is left to Python: somebody has it, it is a signal, a module not met before. */
static PyObject *turn_take(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    Mutex *m = (Mutex *)self;
    PyThreadState *state = CURRENT_STATE();
    Record *me = find_record(state);
    if (me == NULL)
        return NULL;
    if (given != 2)
        return PyErr_Format(PyExc_TypeError, "take_for_caller() takes 2 arguments (%zd given)", given);
    FrameHead *frame = KNOWN_FRAMES && !m->signal ? makers_frame(TOP_FRAME(state)) : NULL;
    if (frame == NULL)
        Py_RETURN_FALSE;
    Site site = {.code = FRAME_CODE(frame)};
    site.lasti = lasti_of(frame, site.code);
    int taken = take(m, me, &site, args[0] == Py_True);
    if (taken == 2 && args[1] == Py_True)
        return learn_order(m, me);
    return PyBool_FromLong(taken);
}

/* give_back(): release the lock if the caller owns it; return whether. */
static PyObject *turn_give(PyObject *self, PyObject *Py_UNUSED(none))
{
    Record *me = find_record(CURRENT_STATE());
    return me == NULL ? NULL : PyBool_FromLong(let_go((Mutex *)self, me));
}

static PyMethodDef turn_methods[] = {
    {"take_for_caller", (PyCFunction)(void (*)(void))turn_take, METH_FASTCALL,
     "take_for_caller($self, by_with, waits, /)\n--\n\nTake it for the first caller that is not machinery, if all is "
     "as usual; return whether."},
    {"give_back", turn_give, METH_NOARGS, "give_back($self, /)\n--\n\nGive it back if the caller has it; return whether."},
    {NULL, NULL, 0, NULL},
};

static PyObject *specialise_turns(PyObject *Py_UNUSED(module), PyObject *type)
{
    if (!PyType_Check(type) || !PyType_IsSubtype((PyTypeObject *)type, core.plain)) {
        PyErr_SetString(PyExc_TypeError, "not a class of plain locks");
        return NULL;
    }
    return add_methods((PyTypeObject *)type, turn_methods);
}
