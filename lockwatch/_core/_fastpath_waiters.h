/* Releases beside waiters in normal mode, and what Condition asks of a re-entrant lock. Part of _fastpath.c.

Both do what mutex.py and rlock.py do in the usual case, step by step, and leave every other case to them. */

/* ---- release beside waiters ------------------------------------------------------------------------------------- */

/* The head of the queue as a new reference, or NULL. */
static PyObject *first_waiter(Mutex *m)
{
    PyObject *queue = QUEUE(m);
    if (queue == NULL || LIST_SIZE(queue) == 0)
        return NULL;
#ifdef Py_GIL_DISABLED
    PyObject *head = PyList_GetItemRef(queue, 0);
    if (head == NULL)
        PyErr_Clear(); /* it has just left */
    return head;
#else
    return Py_NewRef(PyList_GET_ITEM(queue, 0));
#endif
}

/* Whether an attribute, or what a method without arguments returns, is this object; 0 if there is no such thing. */
static int says(PyObject *thing, PyObject *name, int call, PyObject *what)
{
    PyObject *answer = call ? PyObject_CallMethodNoArgs(thing, name) : PyObject_GetAttr(thing, name);
    if (answer == NULL)
        PyErr_Clear();
    Py_XDECREF(answer);
    return answer == what;
}

/* Release a lock that is the caller's, and that others wait for: free it and wake the head, as pass_on() does in normal
   mode. NULL without an exception if mutex.py has to: in starvation mode; for a head that is in the main thread (the one
   behind it is woken, too).

   A head that was woken often does not run for many releases, as it waits for the GIL. `awake` says so at less than the
   price of asking its parker: it is set before the permit is given, and taken back by the head before it looks at the
   lock. So who frees the lock and then reads it as set knows that the head will look yet. */
static Py_NO_INLINE PyObject *release_beside(Mutex *m, Record *me)
{
    PyObject *result = NULL, *parker = NULL, *agent = NULL, *now = NULL, *head;
    int awake;
    if (OWNER(m) != me || STARVING(m) || (head = first_waiter(m)) == NULL)
        return NULL;
    if (!Py_IS_TYPE(head, (PyTypeObject *)core.waiter))
        goto done;
    awake = says(head, core.str_awake, 0, Py_True);
    if (!awake) {
        parker = PyObject_GetAttr(head, core.str_parker);
        agent = PyObject_GetAttr(head, core.str_agent);
        if (parker == NULL || agent == NULL || !says(agent, core.str_main, 0, Py_False)) {
            PyErr_Clear();
            goto done;
        }
    }
    if (!free_it(m, me))
        goto done;
    now = first_waiter(m); /* F1: first free, then look */
    if (now == head && awake && says(head, core.str_awake, 0, Py_True))
        result = Py_NewRef(Py_None);
    else if (now == head && !awake) {
        result = Py_NewRef(Py_None);
        if (PyObject_SetAttr(head, core.str_awake, Py_True) < 0)
            PyErr_Clear();
        if (says(parker, core.str_locked, 1, Py_True) && !says(parker, core.str_release, 1, Py_None))
            Py_SETREF(result, call_through(core.wake_next, m, NULL)); /* another one has just woken it */
    } else
        result = now == NULL ? Py_NewRef(Py_None) : call_through(core.wake_next, m, NULL);
done:
    Py_DECREF(head);
    Py_XDECREF(parker);
    Py_XDECREF(agent);
    Py_XDECREF(now);
    return result;
}

/* ---- for Condition ---------------------------------------------------------------------------------------------- */

static PyObject *recursive_release_save(PyObject *self, PyObject *Py_UNUSED(none))
{
    Mutex *m = (Mutex *)self;
    Record *me = find_record(CURRENT_STATE());
    if (me == NULL)
        return NULL;
    PyObject *saved = NULL, *hold;
    if (OWNER(m) == me && !queued(m)) { /* what a hold says of how it was taken; whose and since when is not needed */
        hold = m->hold == NULL ? Py_BuildValue("OOOiOO", Py_None, Py_None, m->code, m->lasti, Py_None, m->with ? Py_True : Py_False)
                               : current_hold(m);
        saved = hold == NULL ? NULL : Py_BuildValue("iN", m->count, hold);
    }
    if (saved != NULL) {
        int count = m->count;
        m->count = 0;
        if (let_go(m, me)) {
            if (UNLIKELY(queued(m))) { /* F1 */
                PyObject *woken = call_through(core.wake_next, m, NULL);
                if (woken == NULL)
                    Py_CLEAR(saved);
                Py_XDECREF(woken);
            }
            return saved;
        }
        m->count = count;
        Py_DECREF(saved);
    }
    return PyErr_Occurred() ? NULL : PyObject_CallMethodNoArgs(self, core.str_release_all);
}

static PyObject *recursive_acquire_restore(PyObject *self, PyObject *saved)
{
    Mutex *m = (Mutex *)self;
    Record *me = find_record(CURRENT_STATE());
    if (me == NULL)
        return NULL;
    PyObject *hold = PyTuple_Check(saved) && PyTuple_GET_SIZE(saved) == 2 ? PyTuple_GET_ITEM(saved, 1) : NULL;
    if (hold != NULL && PyTuple_Check(hold) && PyTuple_GET_SIZE(hold) >= 6 && me->count == 0 && !queued(m)) {
        Site site = {PyTuple_GET_ITEM(hold, 2), (int)PyLong_AsLong(PyTuple_GET_ITEM(hold, 3))};
        int count = (int)PyLong_AsLong(PyTuple_GET_ITEM(saved, 0));
        if (PyErr_Occurred())
            return NULL;
        if (take(m, me, &site, PyTuple_GET_ITEM(hold, 5) == Py_True)) {
            m->count = count;
            Py_RETURN_NONE;
        }
    }
    return PyObject_CallMethodOneArg(self, core.str_take_again, saved);
}
