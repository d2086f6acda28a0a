/* The uncontended lock of tasks in C: the twin of lockwatch/_core/tasktwin.py, which is the reference for its behaviour.

A lock of tasks is changed by its loop's thread alone; others read. So there are no guards here: what another thread
may read is one pointer (`hold`) or one byte, stored at once.

Invariants
  A1  Whatever may run Python code (the look-up of the task the first time, an allocation that runs the collector)
      comes before the look at the lock that decides; from there to the last store nothing does.
  A2  What is replaced is released after it.

Part of _fastpath.c. */

/* ---- types ------------------------------------------------------------------------------------------------------ */

typedef struct {
    PyObject_HEAD
    PyObject *hold;    /* the owner's tuple, or None */
    PyObject *lasti;   /* int: the instruction of the last hold made here, or NULL */
    int lasti_value;
    PyObject *key;     /* int: the lock's number; not used again */
    PyObject *ref;     /* weak reference to this */
    PyObject *queue;   /* list, never replaced */
    PyObject *created; /* (code, instruction) or None */
    PyObject *name;
    PyObject *weakrefs;
    long long acquisitions;
    unsigned int contended, handoffs;
    char starving, signal;
} TaskRecord;

typedef struct {
    PyObject_HEAD
    TaskRecord *record;
    PyObject *waiters; /* asyncio's deque, or None */
    char locked;
    char strict;       /* kept for `lockwatch.aio`: a lock with waiters is nobody's to take */
} TaskLock;

static struct {
    PyTypeObject *record, *lock;
    PyTypeObject *agent; /* the class of tasks' agents */
    Py_ssize_t holds;    /* where its instances have their table of holds */
    PyObject *find;      /* returns the running task */
    PyObject *table;     /* loop -> its running task, where that is faster; or NULL */
    PyObject *current;   /* returns the agent that runs, whatever it is */
    PyObject *ready;
    PyObject *settings;  /* the dictionary of lockwatch._core.settings */
    int forked;          /* loops may say that they run here, and do not */
    PyObject *str_agent, *str_enter_slowly, *str_exit_slowly, *str_thread_id, *str_order, *str_learn_order;
} aio;

static uint64_t serials; /* _fastpath.c: locks of threads and of tasks are numbered together */

/* ---- the record ------------------------------------------------------------------------------------------------- */

static PyObject *task_record_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(named))
{
    TaskRecord *r = (TaskRecord *)type->tp_alloc(type, 0);
    if (r == NULL)
        return NULL;
    r->hold = Py_NewRef(Py_None);
    r->created = Py_NewRef(Py_None);
    r->name = Py_NewRef(Py_None);
    r->key = PyLong_FromUnsignedLongLong(__atomic_add_fetch(&serials, 1, __ATOMIC_RELAXED));
    r->queue = PyList_New(0);
    r->ref = PyWeakref_NewRef((PyObject *)r, NULL);
    if (r->key == NULL || r->queue == NULL || r->ref == NULL)
        Py_CLEAR(r);
    return (PyObject *)r;
}

static int task_record_traverse(PyObject *self, visitproc visit, void *arg)
{
    TaskRecord *r = (TaskRecord *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(r->hold);
    Py_VISIT(r->ref);
    Py_VISIT(r->queue);
    Py_VISIT(r->created);
    Py_VISIT(r->name);
    return 0;
}

/* What readers rely on is replaced, not taken away: they may have the record still. */
static int task_record_clear(PyObject *self)
{
    TaskRecord *r = (TaskRecord *)self;
    Py_XSETREF(r->hold, Py_NewRef(Py_None));
    Py_XSETREF(r->created, Py_NewRef(Py_None));
    return r->queue == NULL ? 0 : PyList_SetSlice(r->queue, 0, PyList_GET_SIZE(r->queue), NULL);
}

static void task_record_dealloc(PyObject *self)
{
    TaskRecord *r = (TaskRecord *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (r->weakrefs != NULL)
        PyObject_ClearWeakRefs(self);
    Py_XDECREF(r->hold);
    Py_XDECREF(r->lasti);
    Py_XDECREF(r->key);
    Py_XDECREF(r->ref);
    Py_XDECREF(r->queue);
    Py_XDECREF(r->created);
    Py_XDECREF(r->name);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef task_record_members[] = {
    {"hold", T_OBJECT, offsetof(TaskRecord, hold), 0, NULL},
    {"_key", T_OBJECT, offsetof(TaskRecord, key), READONLY, NULL},
    {"_ref", T_OBJECT, offsetof(TaskRecord, ref), READONLY, NULL},
    {"_queue", T_OBJECT, offsetof(TaskRecord, queue), READONLY, NULL},
    {"_created", T_OBJECT, offsetof(TaskRecord, created), 0, NULL},
    {"_name", T_OBJECT, offsetof(TaskRecord, name), 0, NULL},
    {"_acquisitions", T_LONGLONG, offsetof(TaskRecord, acquisitions), 0, NULL},
    {"_contended", T_UINT, offsetof(TaskRecord, contended), 0, NULL},
    {"_handoffs", T_UINT, offsetof(TaskRecord, handoffs), 0, NULL},
    {"_starving", T_BOOL, offsetof(TaskRecord, starving), 0, NULL},
    {"_signal", T_BOOL, offsetof(TaskRecord, signal), 0, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(TaskRecord, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

/* Store the hold; returns the one before. */
static inline PyObject *swap_hold(TaskRecord *r, PyObject *hold)
{
    PyObject *before;
#ifdef Py_GIL_DISABLED
    Py_BEGIN_CRITICAL_SECTION(r); /* as the member's own getter and setter */
    before = r->hold;
    __atomic_store_n(&r->hold, hold, __ATOMIC_RELEASE);
    Py_END_CRITICAL_SECTION();
#else
    before = r->hold;
    r->hold = hold;
#endif
    return before;
}

/* ---- the lock --------------------------------------------------------------------------------------------------- */

static int task_lock_traverse(PyObject *self, visitproc visit, void *arg)
{
    TaskLock *l = (TaskLock *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(l->record);
    Py_VISIT(l->waiters);
    return 0;
}

static int task_lock_clear(PyObject *self)
{
    TaskLock *l = (TaskLock *)self;
    Py_CLEAR(l->record);
    Py_CLEAR(l->waiters);
    return 0;
}

static void task_lock_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)task_lock_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static inline int awaited(TaskLock *l)
{
    return l->waiters != NULL && l->waiters != Py_None && PyObject_Size(l->waiters) != 0;
}

/* The task that this thread's loop runs, found in the table of all: up to 3.11 to ask for the loop costs a system call. */
static PyObject *task_in_table(void)
{
    PyObject *loop, *task, *found = NULL;
    Py_ssize_t at = 0;
    while (found == NULL && !aio.forked && PyDict_Next(aio.table, &at, &loop, &task)) {
        Py_INCREF(loop);
        Py_INCREF(task);
        PyObject *ident = PyObject_GetAttr(loop, aio.str_thread_id);
        if (ident != NULL && PyLong_CheckExact(ident) && PyLong_AsUnsignedLong(ident) == PyThread_get_thread_ident())
            found = Py_NewRef(task);
        Py_DECREF(loop);
        Py_DECREF(task);
        if (ident == NULL)
            return NULL; /* another kind of loop */
        Py_DECREF(ident);
    }
    return found;
}

/* The agent that runs: the task's, found in its attributes; else whatever Python code says. */
static PyObject *find_agent(void)
{
    PyObject *task = aio.table != NULL ? task_in_table() : PyObject_CallNoArgs(aio.find);
    if (task != NULL && task != Py_None) {
        PyObject *agent = PyObject_GetAttr(task, aio.str_agent);
        Py_DECREF(task);
        if (LIKELY(agent != NULL))
            return agent;
    } else
        Py_XDECREF(task);
    if (PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError) && !PyErr_ExceptionMatches(PyExc_RuntimeError))
            return NULL;
        PyErr_Clear();
    }
    return PyObject_CallNoArgs(aio.current);
}

static inline PyObject *holds_of(PyObject *agent)
{
    if (LIKELY(Py_IS_TYPE(agent, aio.agent))) {
        PyObject *holds = *(PyObject **)((char *)agent + aio.holds); /* never replaced */
        if (holds != NULL)
            return Py_NewRef(holds);
    }
    return PyObject_GetAttr(agent, core.str_holds);
}

static PyObject *make_hold(PyObject *agent, TaskRecord *r, const Site *site)
{
    PyObject *since = now_ns(), *lasti = NULL;
    if (LIKELY(r->lasti != NULL && r->lasti_value == site->lasti))
        lasti = Py_NewRef(r->lasti);
    else if ((lasti = PyLong_FromLong(site->lasti)) != NULL) {
        r->lasti_value = site->lasti;
        Py_XSETREF(r->lasti, Py_NewRef(lasti));
    }
    PyObject *hold = since == NULL || lasti == NULL ? NULL : PyTuple_New(6);
    if (hold == NULL) {
        Py_XDECREF(since);
        Py_XDECREF(lasti);
        return NULL;
    }
    PyTuple_SET_ITEM(hold, 0, Py_NewRef(agent));
    PyTuple_SET_ITEM(hold, 1, Py_NewRef(r->ref));
    PyTuple_SET_ITEM(hold, 2, Py_NewRef(site->code));
    PyTuple_SET_ITEM(hold, 3, lasti);
    PyTuple_SET_ITEM(hold, 4, since);
    PyTuple_SET_ITEM(hold, 5, Py_NewRef(Py_True));
    return hold;
}

/* Enter the hold in the owner's table, or, if it is NULL, take out what is there. */
static int list_hold(PyObject *holds, TaskRecord *r, PyObject *hold)
{
    if (hold != NULL)
        return PyDict_CheckExact(holds) ? PyDict_SetItem(holds, r->key, hold) : PyObject_SetItem(holds, r->key, hold);
    int failed = PyDict_CheckExact(holds) ? PyDict_DelItem(holds, r->key) : PyObject_DelItem(holds, r->key);
    if (UNLIKELY(failed < 0) && PyErr_ExceptionMatches(PyExc_KeyError)) { /* somebody has forgotten it */
        PyErr_Clear();
        failed = 0;
    }
    return failed;
}

/* Have the order of the locks learned that an agent holds now, if they are several; with an exception it is released. */
static int learn_task_order(PyObject *lock, PyObject *holds)
{
    Py_ssize_t count = PyDict_CheckExact(holds) ? PyDict_GET_SIZE(holds) : PyObject_Size(holds);
    if (LIKELY(count < 2))
        return count < 0 ? -1 : 0;
    PyObject *wanted = PyDict_GetItemWithError(aio.settings, aio.str_order);
    if (wanted != Py_True)
        return PyErr_Occurred() ? -1 : 0;
    PyObject *done = PyObject_CallMethodNoArgs(lock, aio.str_learn_order);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static int may_wait_here(TaskLock *l); /* _fastpath_waiting.h */
static PyObject *new_waiting(TaskLock *l, PyObject *hold);
static int is_usual(TaskLock *l, TaskRecord *r);
static int release_awaited(TaskLock *l, TaskRecord *r);

static PyObject *task_lock_enter(PyObject *self, PyObject *Py_UNUSED(none))
{
    TaskLock *l = (TaskLock *)self;
    TaskRecord *r = l->record;
    PyObject *result = NULL, *agent, *holds, *hold;
    Site site;
    if (r == NULL) {
        PyErr_SetString(PyExc_AttributeError, "the lock has not been initialised");
        return NULL;
    }
    agent = find_agent();
    holds = agent == NULL ? NULL : holds_of(agent);
    find_site(CURRENT_STATE(), &site, 0);
    hold = holds == NULL ? NULL : make_hold(agent, r, &site);
    if (LIKELY(hold != NULL)) {
        if (l->locked || awaited(l)) /* A1 */
            result = l->locked && may_wait_here(l) ? new_waiting(l, hold)
                                                   : PyObject_CallMethodOneArg(self, aio.str_enter_slowly, hold);
        else if (LIKELY(list_hold(holds, r, hold) == 0)) {
            l->locked = 1;
            r->acquisitions++;
            Py_XDECREF(swap_hold(r, Py_NewRef(hold)));
            result = learn_task_order(self, holds) < 0 ? NULL : Py_NewRef(aio.ready);
        }
        Py_DECREF(hold);
    }
    Py_XDECREF(agent);
    Py_XDECREF(holds);
    return result;
}

static PyObject *task_lock_exit(PyObject *self, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(given))
{
    TaskLock *l = (TaskLock *)self;
    TaskRecord *r = l->record;
    if (LIKELY(r != NULL && r->hold != NULL && PyTuple_CheckExact(r->hold) && !awaited(l))) {
        PyObject *hold = swap_hold(r, Py_NewRef(Py_None));
        l->locked = 0;
        PyObject *holds = holds_of(PyTuple_GET_ITEM(hold, 0));
        int failed = holds == NULL || list_hold(holds, r, NULL) < 0;
        Py_XDECREF(holds);
        Py_DECREF(hold);
        return failed ? NULL : Py_NewRef(aio.ready);
    }
    if (r != NULL && is_usual(l, r))
        return release_awaited(l, r) < 0 ? NULL : Py_NewRef(aio.ready);
    PyObject *done = PyObject_CallMethodNoArgs(self, aio.str_exit_slowly);
    if (done == NULL)
        return NULL;
    Py_DECREF(done);
    return Py_NewRef(aio.ready);
}

static PyObject *get_record(PyObject *self, void *Py_UNUSED(none))
{
    TaskLock *l = (TaskLock *)self;
    return Py_NewRef(l->record == NULL ? Py_None : (PyObject *)l->record);
}

static int set_record(PyObject *self, PyObject *record, void *Py_UNUSED(none))
{
    TaskLock *l = (TaskLock *)self;
    if (record == NULL || !PyObject_TypeCheck(record, aio.record)) {
        PyErr_SetString(PyExc_TypeError, "not a record of a lock of tasks");
        return -1;
    }
    PyObject *before = (PyObject *)l->record;
    l->record = (TaskRecord *)Py_NewRef(record);
    Py_XDECREF(before);
    return 0;
}

static PyGetSetDef task_lock_getset[] = {
    {"_lockwatch", get_record, set_record, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef task_lock_methods[] = {
    {"__aenter__", task_lock_enter, METH_NOARGS, NULL},
    {"__aexit__", (PyCFunction)(void (*)(void))task_lock_exit, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef task_lock_members[] = {
    {"_waiters", T_OBJECT, offsetof(TaskLock, waiters), 0, NULL},
    {"_locked", T_BOOL, offsetof(TaskLock, locked), 0, NULL},
    {"_strict", T_BOOL, offsetof(TaskLock, strict), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

/* ---- their part of the module ----------------------------------------------------------------------------------- */

static PyObject *setup_tasks(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *agent, *find, *table, *current, *ready, *settings;
    if (!PyArg_ParseTuple(args, "O!OOOOO!:setup_tasks", &PyType_Type, &agent, &find, &table, &current, &ready,
                          &PyDict_Type, &settings))
        return NULL;
    PyObject *holds = PyObject_GetAttr(agent, core.str_holds); /* a slot */
    if (holds == NULL)
        return NULL;
    if (Py_IS_TYPE(holds, &PyMemberDescr_Type)) {
        aio.holds = ((PyMemberDescrObject *)holds)->d_member->offset;
        Py_XSETREF(aio.agent, (PyTypeObject *)Py_NewRef(agent));
    }
    Py_DECREF(holds);
    Py_XSETREF(aio.find, Py_NewRef(find));
    Py_XSETREF(aio.table, PyDict_Check(table) ? Py_NewRef(table) : NULL);
    Py_XSETREF(aio.current, Py_NewRef(current));
    Py_XSETREF(aio.ready, Py_NewRef(ready));
    Py_XSETREF(aio.settings, Py_NewRef(settings));
    Py_RETURN_NONE;
}

static PyObject *current_agent(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)) { return find_agent(); }

/* As specialise(), for a class of locks of tasks. */
static PyObject *specialise_tasks(PyObject *Py_UNUSED(module), PyObject *type)
{
    if (!PyType_Check(type) || !PyType_IsSubtype((PyTypeObject *)type, aio.lock)) {
        PyErr_SetString(PyExc_TypeError, "not a class of locks of tasks");
        return NULL;
    }
    for (PyMethodDef *def = task_lock_methods; def->ml_name != NULL; def++) {
        PyObject *method = PyDescr_NewMethod((PyTypeObject *)type, def);
        if (method == NULL || PyObject_SetAttrString(type, def->ml_name, method) < 0) {
            Py_XDECREF(method);
            return NULL;
        }
        Py_DECREF(method);
    }
    return Py_NewRef(type);
}

#define TASK_FLAGS (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC)

static PyType_Slot task_record_slots[] = {
    {Py_tp_new, (void *)task_record_new},           {Py_tp_dealloc, (void *)task_record_dealloc},
    {Py_tp_traverse, (void *)task_record_traverse}, {Py_tp_clear, (void *)task_record_clear},
    {Py_tp_members, (void *)task_record_members},   {0, NULL}};
static PyType_Slot task_lock_slots[] = {
    {Py_tp_dealloc, (void *)task_lock_dealloc}, {Py_tp_traverse, (void *)task_lock_traverse},
    {Py_tp_clear, (void *)task_lock_clear},     {Py_tp_methods, (void *)task_lock_methods},
    {Py_tp_members, (void *)task_lock_members}, {Py_tp_getset, (void *)task_lock_getset},
    {0, NULL}};
static PyType_Spec task_record_spec = {"lockwatch._core._fastpath.TaskRecord", sizeof(TaskRecord), 0, TASK_FLAGS,
                                       task_record_slots};
static PyType_Spec task_lock_spec = {"lockwatch._core._fastpath.TaskLock", sizeof(TaskLock), 0, TASK_FLAGS,
                                     task_lock_slots};

static int add_type(PyObject *module, PyTypeObject **into, PyType_Spec *spec, PyTypeObject *base);

static int add_task_types(PyObject *module)
{
    aio.str_agent = PyUnicode_InternFromString("_lockwatch_agent");
    aio.str_enter_slowly = PyUnicode_InternFromString("_enter_slowly");
    aio.str_exit_slowly = PyUnicode_InternFromString("_exit_slowly");
    aio.str_thread_id = PyUnicode_InternFromString("_thread_id");
    aio.str_order = PyUnicode_InternFromString("order");
    aio.str_learn_order = PyUnicode_InternFromString("_learn_order");
    return add_type(module, &aio.record, &task_record_spec, NULL) < 0 ? -1
                                                                     : add_type(module, &aio.lock, &task_lock_spec, NULL);
}
