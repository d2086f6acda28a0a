/* Which work comes after which: what segments.py does when a piece of work is submitted, begun and ended, and when its
result is taken, where that is a few stores. All else is left to it. Part of _fastpath.c.

With the GIL nothing else runs between the first look at a clock and the last store: what is made is made before, what is
replaced is released after. Without it: only the thread itself replaces what stands in its clock, so what it finds there
stays; it stores as Python code does, for others who may read. A Past never changes. What others may replace, the clock of
other work and the table of chains, is read as Python code does. */

enum { CLOCK, CHAINS, NUMBER, SEGMENT, SEEN, NOTED, EXACT, ON, VECTOR, OF_NUMBER, OF_SEGMENT, SLOTS };

static struct {
    PyTypeObject *agent, *clock, *exactness, *past;
    Py_ssize_t at[SLOTS]; /* where they have their slots */
    PyObject *nothing;    /* Past of whoever has seen no order */
    PyObject *current, *submit, *begin, *end, *come_after; /* all of it, in Python */
    PyObject *str_clock;  /* the attribute with a future's clock */
    PyObject *str_chains, *str_seen, *str_segment;
} works;

#define AT(object, slot) (*(PyObject **)((char *)(object) + works.at[slot]))
#define INT_AT(object, slot) PyLong_AsLongLong(AT(object, slot))

/* Replace what stands in the calling thread's clock; takes over the reference. */
#ifdef Py_GIL_DISABLED
#define STORE(clock, slot, name, value) store(clock, works.name, value)
static inline int store(PyObject *clock, PyObject *name, PyObject *value)
{
    int result = PyObject_SetAttr(clock, name, value);
    Py_DECREF(value);
    return result;
}
#else
#define STORE(clock, slot, name, value) store(&AT(clock, slot), value)
static inline int store(PyObject **at, PyObject *value)
{
    PyObject *old = *at;
    *at = value;
    Py_DECREF(old);
    return 0;
}
#endif

/* Whether an agent remembers no chains of locks: 1 or 0, or -1 with an exception. */
static inline int has_no_chains(PyObject *agent)
{
#ifdef Py_GIL_DISABLED
    PyObject *chains = PyObject_GetAttr(agent, works.str_chains);
    if (chains == NULL)
        return -1;
    int none = PyDict_CheckExact(chains) && PyDict_Size(chains) == 0;
    Py_DECREF(chains);
    return none;
#else
    PyObject *chains = AT(agent, CHAINS);
    return PyDict_CheckExact(chains) && PyDict_GET_SIZE(chains) == 0;
#endif
}

/* Look an attribute up that need not be there: 1 if it is, 0 if not, -1 with an exception. */
static inline int find_attribute(PyObject *object, PyObject *name, PyObject **found)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyObject_GetOptionalAttr(object, name, found);
#else
    return _PyObject_LookupAttr(object, name, found);
#endif
}

/* The calling thread's clock, borrowed, if it has an ordinary one. */
static inline PyObject *own_clock(Record *me)
{
    PyObject *agent = me->agent;
    if (agent == NULL || !Py_IS_TYPE(agent, works.agent))
        return NULL;
    PyObject *clock = AT(agent, CLOCK);
    return clock != NULL && Py_IS_TYPE(clock, works.clock) ? clock : NULL;
}

static PyObject *thread_agent(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    Record *me = find_record(CURRENT_STATE());
    if (me == NULL)
        return NULL;
    return LIKELY(me->agent != NULL) ? Py_NewRef(me->agent) : PyObject_CallNoArgs(works.current);
}

static PyObject *submit_work(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    Record *me = find_record(CURRENT_STATE());
    if (me == NULL)
        return NULL;
    PyObject *clock = own_clock(me);
    if (clock != NULL && AT(clock, NOTED) == Py_False && AT(clock, SEEN) == works.nothing)
        return Py_NewRef(works.nothing);
    PyObject *past = works.past->tp_alloc(works.past, 0); /* may run the collector */
    if (past == NULL)
        return NULL;
    clock = own_clock(me);
    if (LIKELY(clock != NULL && AT(clock, NOTED) == Py_True && Py_IS_TYPE(AT(clock, EXACT), works.exactness) &&
               AT(AT(clock, EXACT), ON) == Py_False)) {
        PyObject *seen = AT(clock, SEEN), *segment = AT(clock, SEGMENT);
        long long number = INT_AT(seen, OF_NUMBER), next = PyLong_AsLongLong(segment) + 1;
        if (number == 0 || number == INT_AT(clock, NUMBER)) {
            PyObject *after = PyLong_FromLongLong(next);
            AT(past, VECTOR) = Py_NewRef(AT(seen, VECTOR));
            AT(past, OF_NUMBER) = Py_NewRef(AT(clock, NUMBER));
            AT(past, OF_SEGMENT) = Py_NewRef(segment);
            if (after == NULL || STORE(clock, SEGMENT, str_segment, after) < 0) {
                Py_DECREF(past);
                return NULL;
            }
            me->segment = next;
            PyObject_GC_UnTrack(past); /* it never changes, and what it refers to never refers to it */
            return past;
        }
    }
    Py_DECREF(past);
    return PyObject_CallNoArgs(works.submit);
}

static PyObject *begin_work(PyObject *Py_UNUSED(module), PyObject *past)
{
    Record *me = find_record(CURRENT_STATE());
    if (me == NULL)
        return NULL;
    PyObject *clock = own_clock(me);
    int usual = clock == NULL ? 0 : has_no_chains(me->agent);
    if (usual < 0)
        return NULL;
    if (LIKELY(usual && AT(clock, NOTED) == Py_False && Py_IS_TYPE(past, works.past))) {
        PyObject *seen = AT(clock, SEEN);
        long long number = INT_AT(seen, OF_NUMBER);
        if (AT(seen, VECTOR) == AT(past, VECTOR) && (number == 0 || number == INT_AT(past, OF_NUMBER))) {
            Py_INCREF(clock);
            if (INT_AT(seen, OF_SEGMENT) < INT_AT(past, OF_SEGMENT) &&
                STORE(clock, SEEN, str_seen, Py_NewRef(past)) < 0)
                Py_CLEAR(clock);
            return clock;
        }
    }
    return PyObject_CallOneArg(works.begin, past);
}

static PyObject *end_work(PyObject *Py_UNUSED(module), PyObject *clock)
{
    Record *me = find_record(CURRENT_STATE());
    if (me == NULL)
        return NULL;
    if (LIKELY(own_clock(me) == clock && AT(clock, NOTED) == Py_False))
        return Py_NewRef(AT(clock, SEEN));
    return PyObject_CallOneArg(works.end, clock);
}

/* come_after(future): what ran in a pool is over for whoever has its result. */
static PyObject *come_after(PyObject *Py_UNUSED(module), PyObject *future)
{
    PyObject *before, *result = NULL;
    int found = find_attribute(future, works.str_clock, &before);
    if (found <= 0)
        return found < 0 ? NULL : Py_NewRef(Py_None);
    Record *me = find_record(CURRENT_STATE());
    PyObject *clock = me == NULL ? NULL : own_clock(me), *past = before;
#ifndef Py_GIL_DISABLED
    if (Py_IS_TYPE(before, works.clock) && AT(before, NOTED) == Py_False)
        past = AT(before, SEEN); /* whoever did the work has not said yet that it is over */
#endif
    if (LIKELY(clock != NULL && Py_IS_TYPE(past, works.past) && AT(past, VECTOR) == AT(AT(clock, SEEN), VECTOR))) {
        long long number = INT_AT(past, OF_NUMBER);
        if (number == 0 || number == INT_AT(clock, NUMBER))
            result = Py_NewRef(Py_None); /* it came after nothing but this */
    }
    if (result == NULL && me != NULL)
        result = PyObject_CallOneArg(works.come_after, future);
    Py_DECREF(before);
    return result;
}

static PyObject *setup_work(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyTypeObject *agent, *clock, *exactness, *past, *const type = &PyType_Type;
    PyObject *parts[7];
    if (!PyArg_ParseTuple(args, "O!O!O!O!OOOOOOU:setup_work", type, &agent, type, &clock, type, &exactness, type, &past,
                          &parts[0], &parts[1], &parts[2], &parts[3], &parts[4], &parts[5], &parts[6]))
        return NULL;
    if (find_slot(agent, "clock", &works.at[CLOCK]) < 0 || find_slot(agent, "chains", &works.at[CHAINS]) < 0 ||
        find_slot(clock, "number", &works.at[NUMBER]) < 0 || find_slot(clock, "segment", &works.at[SEGMENT]) < 0 ||
        find_slot(clock, "seen", &works.at[SEEN]) < 0 || find_slot(clock, "noted", &works.at[NOTED]) < 0 ||
        find_slot(clock, "exact", &works.at[EXACT]) < 0 || find_slot(exactness, "on", &works.at[ON]) < 0 ||
        find_slot(past, "vector", &works.at[VECTOR]) < 0 || find_slot(past, "number", &works.at[OF_NUMBER]) < 0 ||
        find_slot(past, "segment", &works.at[OF_SEGMENT]) < 0)
        return NULL;
    PyObject **into[] = {&works.nothing, &works.current, &works.submit, &works.begin, &works.end, &works.come_after,
                         &works.str_clock};
    for (size_t i = 0; i < sizeof into / sizeof *into; i++)
        Py_XSETREF(*into[i], Py_NewRef(parts[i]));
    works.str_chains = PyUnicode_InternFromString("chains");
    works.str_seen = PyUnicode_InternFromString("seen");
    works.str_segment = PyUnicode_InternFromString("segment");
    if (PyErr_Occurred())
        return NULL;
    Py_XSETREF(works.agent, (PyTypeObject *)Py_NewRef(agent));
    Py_XSETREF(works.clock, (PyTypeObject *)Py_NewRef(clock));
    Py_XSETREF(works.exactness, (PyTypeObject *)Py_NewRef(exactness));
    Py_XSETREF(works.past, (PyTypeObject *)Py_NewRef(past));
    Py_RETURN_NONE;
}

static PyMethodDef work_functions[] = {
    {"setup_work", setup_work, METH_VARARGS, "Take the classes of segments.py, and the functions for the rest."},
    {"thread_agent", thread_agent, METH_NOARGS, "Return the calling thread's agent."},
    {"submit_work", submit_work, METH_NOARGS, "Return what happened before a piece of work that is submitted now."},
    {"begin_work", begin_work, METH_O, "Begin a piece of work that was submitted after this; return its clock."},
    {"end_work", end_work, METH_O, "End the piece of work with this clock; return what tells what it knew."},
    {"come_after", come_after, METH_O, "Begin a segment after what a future's work knew, if that is news."},
    {NULL, NULL, 0, NULL},
};

static int add_work_functions(PyObject *module) { return PyModule_AddFunctions(module, work_functions); }
