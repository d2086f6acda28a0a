/* Waiting for a lock of tasks in C, and its release while somebody waits: the twin of `wait_for` and `release` in
lockwatch/aio/go.py, where the state table and the invariants (T1 to T4) stand.

Only what is usual is done here: a task that waits in its own loop, is woken and has the lock or gets it. Whatever else
there is goes to the code in Python: who is woken and loses, is cancelled, or is a victim; another agent than a task.

What a wait is (`lockwatch.aio.record.LockWait`) stays a Python object with slots, which are read and, before anybody
else knows of it, written at their offsets. Without the GIL, too, only the loop's thread changes waits and queue.

Part of _fastpath.c. */

typedef struct {
    PyObject_HEAD
    TaskLock *lock;
    PyObject *hold;
    PyObject *wait;  /* NULL before the first step */
    PyObject *inner; /* the coroutine in Python that goes on with it, or NULL */
    char over;
} Waiting;

static struct {
    PyTypeObject *waiting;
    PyObject *prototype;  /* a LockWait: new ones are copies of it */
    PyTypeObject *wait;   /* its class */
    PyObject *wait_for, *go_on, *leave, *watch_end, *judge; /* go.py's */
    PyObject *serials, *granted, *zero;
    Py_ssize_t agent, resource, code, lasti, since, serial, slot, future, hold, timer; /* offsets in a wait */
    Py_ssize_t waits, task_ref, loop_ref, end_watched;                                 /* in an agent of a task */
    PyObject *str_loop, *str_create_future, *str_blocking, *str_look, *str_end, *str_fut_waiter, *str_done,
        *str_cancelled, *str_set_result, *str_send, *str_throw, *str_close, *str_threshold, *str_hold, *str_future;
} go;

#define FIELD(object, offset) (*(PyObject **)((char *)(object) + (offset)))

static inline void set_field(PyObject *object, Py_ssize_t offset, PyObject *value) /* takes the reference */
{
    Py_XSETREF(FIELD(object, offset), value);
}

/* Whether a method that takes nothing says so: 1 or 0, or -1 with an exception. */
static int answers(PyObject *object, PyObject *method)
{
    PyObject *answer = PyObject_CallMethodNoArgs(object, method);
    int result = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return result;
}

/* Make the wait of a task, as LockWait() does. */
static PyObject *new_wait(PyObject *agent, TaskRecord *r, PyObject *future, PyObject *hold)
{
    PyObject *wait = go.wait->tp_alloc(go.wait, 0);
    PyObject *serial = wait == NULL ? NULL : PyIter_Next(go.serials);
    PyObject *slot = serial == NULL ? NULL : PyDict_New();
    if (slot == NULL) {
        Py_XDECREF(serial);
        Py_XDECREF(wait);
        return NULL;
    }
    for (Py_ssize_t at = (Py_ssize_t)sizeof(PyObject); at < go.wait->tp_basicsize; at += (Py_ssize_t)sizeof(PyObject *))
        FIELD(wait, at) = Py_XNewRef(FIELD(go.prototype, at));
    set_field(wait, go.agent, Py_NewRef(agent));
    set_field(wait, go.resource, Py_NewRef(r));
    set_field(wait, go.future, Py_NewRef(future));
    set_field(wait, go.hold, Py_NewRef(hold));
    set_field(wait, go.code, Py_NewRef(PyTuple_GET_ITEM(hold, 2)));
    set_field(wait, go.lasti, Py_NewRef(PyTuple_GET_ITEM(hold, 3)));
    set_field(wait, go.since, Py_NewRef(PyTuple_GET_ITEM(hold, 4)));
    set_field(wait, go.serial, serial);
    set_field(wait, go.slot, slot);
    return wait;
}

/* See that it is noticed when the owner ends. */
static int watch_end(PyObject *agent)
{
    if (Py_IS_TYPE(agent, aio.agent) && FIELD(agent, go.end_watched) == Py_True)
        return 0;
    PyObject *done = PyObject_CallOneArg(go.watch_end, agent);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Whether the lock's owner is about to run (LockWait.begin): 1 or 0, or -1 with an exception. */
static int owner_may_run(TaskLock *l, TaskRecord *r, PyObject *loop)
{
    if (!PyTuple_CheckExact(r->hold))
        return !l->locked;
    PyObject *owner = PyTuple_GET_ITEM(r->hold, 0);
    if (!Py_IS_TYPE(owner, aio.agent))
        return 0;
    Py_INCREF(owner);
    PyObject *its_loop = NULL, *task = NULL, *future = NULL;
    int result = -1;
    if (watch_end(owner) == 0 && (its_loop = PyObject_CallNoArgs(FIELD(owner, go.loop_ref))) != NULL &&
        (task = PyObject_CallNoArgs(FIELD(owner, go.task_ref))) != NULL) {
        if (task == Py_None || its_loop != loop || PyList_GET_SIZE(FIELD(owner, go.waits)) != 0)
            result = 0;
        else if ((future = PyObject_GetAttr(task, go.str_fut_waiter)) != NULL) {
            result = answers(task, go.str_done);
            if (result >= 0)
                result = result ? 0 : future == Py_None ? 1 : answers(future, go.str_done);
        }
    }
    Py_XDECREF(its_loop);
    Py_XDECREF(task);
    Py_XDECREF(future);
    Py_DECREF(owner);
    return result;
}

static int drop(PyObject *list, PyObject *item, Py_ssize_t from)
{
    Py_ssize_t size = PyList_GET_SIZE(list), i = from < 0 ? size - 1 : from;
    if (i < size && i >= 0 && PyList_GET_ITEM(list, i) == item)
        return PyList_SetSlice(list, i, i + 1, NULL);
    for (i = 0; i < PyList_GET_SIZE(list); i++) {
        if (PyList_GET_ITEM(list, i) == item)
            return PyList_SetSlice(list, i, i + 1, NULL);
    }
    return 0;
}

static long long since_of(PyObject *wait) { return PyLong_AsLongLong(FIELD(wait, go.since)); }

static long long threshold(void)
{
    PyObject *found = PyDict_GetItemWithError(aio.settings, go.str_threshold);
    return found == NULL ? -1 : PyLong_AsLongLong(found);
}

/* Make who has waited the owner of a lock, which is locked (`_own`). */
static int own(TaskRecord *r, PyObject *wait, long long now)
{
    PyObject *agent = FIELD(wait, go.agent), *before = FIELD(wait, go.hold), *hold, *since, *owner, *holds;
    if (drop(r->queue, wait, 0) < 0 || drop(FIELD(agent, go.waits), wait, -1) < 0)
        return -1;
    if (FIELD(wait, go.timer) != Py_None) {
        PyObject *done = PyObject_CallMethodNoArgs(wait, go.str_end);
        if (done == NULL)
            return -1;
        Py_DECREF(done);
    }
    if (r->starving && (PyList_GET_SIZE(r->queue) == 0 || now - since_of(wait) <= threshold()))
        r->starving = 0;
    since = PyLong_FromLongLong(now);
    hold = since == NULL ? NULL : PyTuple_New(6);
    if (hold == NULL) {
        Py_XDECREF(since);
        return -1;
    }
    for (int i = 0; i < 6; i++)
        PyTuple_SET_ITEM(hold, i, i == 4 ? since : Py_NewRef(PyTuple_GET_ITEM(before, i)));
    owner = PyTuple_GET_ITEM(hold, 0);
    holds = holds_of(owner);
    int failed = holds == NULL || list_hold(holds, r, hold) < 0 || PyObject_SetAttr(wait, go.str_hold, hold) < 0;
    Py_XDECREF(holds);
    if (failed) {
        Py_DECREF(hold);
        return -1;
    }
    r->acquisitions++;
    r->contended++;
    Py_XDECREF(swap_hold(r, hold));
    return PyList_GET_SIZE(r->queue) ? watch_end(owner) : 0;
}

static int wake(PyObject *future)
{
    int done = answers(future, go.str_done);
    if (done)
        return done < 0 ? -1 : 0;
    PyObject *nothing = PyObject_CallMethodOneArg(future, go.str_set_result, Py_True);
    if (nothing == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_RuntimeError))
            return -1;
        PyErr_Clear(); /* the loop has been closed, and its tasks are being thrown away */
    }
    Py_XDECREF(nothing);
    return 0;
}

static inline int is_tasks(PyObject *wait)
{
    return Py_IS_TYPE(wait, go.wait) && Py_IS_TYPE(FIELD(wait, go.agent), aio.agent);
}

/* Whether all is as `release_awaited` takes it to be. */
static int is_usual(TaskLock *l, TaskRecord *r)
{
    return go.prototype != NULL && !l->strict && l->locked && PyTuple_CheckExact(r->hold) &&
           PyList_GET_SIZE(r->queue) != 0;
}

/* Let go of a lock that others wait for (`release`): 0, or -1 with an exception. */
static int release_awaited(TaskLock *l, TaskRecord *r)
{
    long long now = read_clock();
    PyObject *hold = swap_hold(r, Py_NewRef(Py_None)), *holds = holds_of(PyTuple_GET_ITEM(hold, 0));
    int failed = holds == NULL || list_hold(holds, r, NULL) < 0;
    Py_XDECREF(holds);
    Py_DECREF(hold);
    for (Py_ssize_t i = 0; !failed && i < PyList_GET_SIZE(r->queue); i++) {
        PyObject *wait = PyList_GET_ITEM(r->queue, i), *future;
        if (!is_tasks(wait)) { /* somebody runs a coroutine by hand: what is left is done in Python */
            PyObject *done = PyObject_CallMethodNoArgs((PyObject *)l, aio.str_exit_slowly);
            Py_XDECREF(done);
            return done == NULL ? -1 : 0;
        }
        Py_INCREF(wait);
        future = Py_NewRef(FIELD(wait, go.future));
        int gone = answers(future, go.str_cancelled), woken = 0;
        if (gone == 0 && i == 0 && !r->starving) {
            woken = answers(future, go.str_done);
            if (woken > 0 && now - since_of(wait) > threshold())
                r->starving = 1;
        }
        failed = gone < 0 || woken < 0;
        int given = 0;
        if (!failed && !gone && r->starving) {
            PyObject *verdict = PyDict_SetDefault(FIELD(wait, go.slot), go.zero, go.granted);
            failed = verdict == NULL;
            if (verdict == go.granted) { /* else it is a victim: it will leave */
                failed = own(r, wait, now) < 0 || wake(future) < 0;
                r->handoffs++;
                given = 1;
            }
        } else if (!failed && !gone) {
            l->locked = 0;
            failed = wake(future) < 0;
            given = 1;
        }
        Py_DECREF(future);
        Py_DECREF(wait);
        if (given)
            return failed ? -1 : 0;
    }
    l->locked = 0;
    if (!failed && r->starving) { /* nobody can be given it; one who is not being cancelled is to be awake (T2) */
        for (Py_ssize_t i = 0; !failed && i < PyList_GET_SIZE(r->queue); i++) {
            PyObject *future = PyObject_GetAttr(PyList_GET_ITEM(r->queue, i), go.str_future);
            if (future == NULL)
                return -1;
            int gone = answers(future, go.str_cancelled);
            failed = gone < 0 || (!gone && wake(future) < 0);
            Py_DECREF(future);
            if (!gone)
                break;
        }
    }
    return failed ? -1 : 0;
}

/* ---- what is awaited -------------------------------------------------------------------------------------------- */

static int may_wait_here(TaskLock *l) { return go.prototype != NULL && !l->strict; }

static PyObject *new_waiting(TaskLock *l, PyObject *hold)
{
    Waiting *w = (Waiting *)go.waiting->tp_alloc(go.waiting, 0);
    if (w != NULL) {
        w->lock = (TaskLock *)Py_NewRef(l);
        w->hold = Py_NewRef(hold);
    }
    return (PyObject *)w;
}

/* Leave without the lock, and let the present exception go on. */
static PyObject *leave(Waiting *w)
{
    PyObject *kind, *value, *trace;
    PyErr_Fetch(&kind, &value, &trace);
    w->over = 1;
    PyObject *args[] = {(PyObject *)w->lock, (PyObject *)w->lock->record, w->wait};
    PyObject *done = PyObject_Vectorcall(go.leave, args, 3, NULL);
    if (done == NULL) {
        Py_XDECREF(kind);
        Py_XDECREF(value);
        Py_XDECREF(trace);
        return NULL;
    }
    Py_DECREF(done);
    PyErr_Restore(kind, value, trace);
    return NULL;
}

/* Go on in Python: `wait_for` before the first step, `go_on` after it. */
static PyObject *go_on(Waiting *w, PyObject *coroutine, PyObject *what)
{
    PyObject *args[] = {(PyObject *)w->lock, (PyObject *)w->lock->record, what};
    w->inner = PyObject_Vectorcall(coroutine, args, 3, NULL);
    return w->inner == NULL ? NULL : PyObject_CallMethodOneArg(w->inner, go.str_send, Py_None);
}

static PyObject *begin(Waiting *w)
{
    TaskLock *l = w->lock;
    TaskRecord *r = l->record;
    PyObject *result = NULL, *future = NULL, *loop = NULL, *bound = NULL, *me = find_agent();
    if (me == NULL)
        return NULL;
    int usual = me == PyTuple_GET_ITEM(w->hold, 0) && Py_IS_TYPE(me, aio.agent);
    if (usual) {
        loop = PyObject_CallNoArgs(FIELD(me, go.loop_ref));
        bound = loop == NULL ? NULL : PyObject_GetAttr((PyObject *)l, go.str_loop);
        if (bound == NULL)
            goto done;
        usual = loop == bound && loop != Py_None;
    }
    if (usual && (future = PyObject_CallMethodNoArgs(loop, go.str_create_future)) == NULL)
        goto done;
    if (!usual || !(l->locked || (r->starving && PyList_GET_SIZE(r->queue)))) {
        result = go_on(w, go.wait_for, w->hold);
        goto done;
    }
    w->wait = new_wait(me, r, future, w->hold);
    if (w->wait == NULL || PyList_Append(r->queue, w->wait) < 0)
        goto done;
    int may_run = PyList_Append(FIELD(me, go.waits), w->wait) < 0 ? -1 : owner_may_run(l, r, loop);
    PyObject *looked = may_run ? NULL : PyObject_CallMethodNoArgs(w->wait, go.str_look);
    if (looked != NULL && PyDict_GET_SIZE(FIELD(w->wait, go.slot)))
        Py_SETREF(looked, PyObject_CallOneArg(go.judge, w->wait));
    Py_XDECREF(looked);
    if (may_run < 0 || (!may_run && looked == NULL) || PyObject_SetAttr(future, go.str_blocking, Py_True) < 0)
        result = leave(w);
    else
        result = Py_NewRef(future);
done:
    Py_DECREF(me);
    Py_XDECREF(loop);
    Py_XDECREF(bound);
    Py_XDECREF(future);
    return result;
}

/* The next step: what the loop is to wait for; or NULL, without an exception when it is done. */
static PyObject *waiting_next(PyObject *self)
{
    Waiting *w = (Waiting *)self;
    TaskRecord *r = w->lock->record;
    if (w->over)
        return NULL;
    if (w->inner != NULL)
        return PyObject_CallMethodOneArg(w->inner, go.str_send, Py_None);
    if (w->wait == NULL)
        return begin(w);
    if (r->hold != FIELD(w->wait, go.hold)) {
        if (w->lock->locked || PyDict_GET_SIZE(FIELD(w->wait, go.slot)))
            return go_on(w, go.go_on, w->wait);
        w->lock->locked = 1;
        w->over = 1;
        if (own(r, w->wait, read_clock()) < 0)
            return NULL;
    }
    w->over = 1;
    PyObject *holds = holds_of(PyTuple_GET_ITEM(FIELD(w->wait, go.hold), 0));
    if (holds != NULL)
        (void)learn_task_order((PyObject *)w->lock, holds);
    Py_XDECREF(holds);
    return NULL;
}

static PySendResult waiting_send(PyObject *self, PyObject *Py_UNUSED(value), PyObject **result)
{
    *result = waiting_next(self);
    if (*result != NULL)
        return PYGEN_NEXT;
    if (PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_StopIteration))
            return PYGEN_ERROR;
        PyErr_Clear(); /* the coroutine in Python is done */
    }
    *result = Py_NewRef(Py_None);
    return PYGEN_RETURN;
}

static PyObject *waiting_send_method(PyObject *self, PyObject *value)
{
    PyObject *result;
    PySendResult what = waiting_send(self, value, &result);
    if (what == PYGEN_RETURN) {
        Py_DECREF(result);
        PyErr_SetNone(PyExc_StopIteration);
        return NULL;
    }
    return what == PYGEN_NEXT ? result : NULL;
}

static PyObject *waiting_throw(PyObject *self, PyObject *args)
{
    Waiting *w = (Waiting *)self;
    PyObject *kind, *value = NULL, *trace = NULL;
    if (!PyArg_UnpackTuple(args, "throw", 1, 3, &kind, &value, &trace))
        return NULL;
    if (w->inner != NULL) {
        PyObject *method = PyObject_GetAttr(w->inner, go.str_throw);
        PyObject *result = method == NULL ? NULL : PyObject_CallObject(method, args);
        Py_XDECREF(method);
        return result;
    }
    if (PyExceptionInstance_Check(kind))
        PyErr_SetObject((PyObject *)Py_TYPE(kind), kind);
    else
        PyErr_SetObject(kind, value);
    if (w->over || w->wait == NULL) {
        w->over = 1;
        return NULL;
    }
    return leave(w);
}

static PyObject *waiting_close(PyObject *self, PyObject *Py_UNUSED(none))
{
    Waiting *w = (Waiting *)self;
    if (w->inner != NULL)
        return PyObject_CallMethodNoArgs(w->inner, go.str_close);
    if (!w->over && w->wait != NULL)
        (void)leave(w);
    w->over = 1;
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

/* As a coroutine has them, for whoever looks at the coroutines that a task stands in. */
static PyObject *get_code(PyObject *Py_UNUSED(self), void *Py_UNUSED(none))
{
    return PyObject_GetAttrString(go.wait_for, "__code__");
}

static PyObject *get_await(PyObject *self, void *Py_UNUSED(none))
{
    PyObject *inner = ((Waiting *)self)->inner;
    return Py_NewRef(inner == NULL ? Py_None : inner);
}

static PyGetSetDef waiting_getset[] = {
    {"cr_code", get_code, NULL, NULL, NULL},
    {"cr_await", get_await, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static int waiting_traverse(PyObject *self, visitproc visit, void *arg)
{
    Waiting *w = (Waiting *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(w->lock);
    Py_VISIT(w->hold);
    Py_VISIT(w->wait);
    Py_VISIT(w->inner);
    return 0;
}

static void waiting_dealloc(PyObject *self)
{
    Waiting *w = (Waiting *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_XDECREF(w->lock);
    Py_XDECREF(w->hold);
    Py_XDECREF(w->wait);
    Py_XDECREF(w->inner);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef waiting_methods[] = {
    {"send", waiting_send_method, METH_O, NULL},
    {"throw", waiting_throw, METH_VARARGS, NULL},
    {"close", waiting_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

/* ---- its part of the module ------------------------------------------------------------------------------------- */

static int find_offset(PyObject *type, const char *name, Py_ssize_t *into)
{
    PyObject *slot = PyObject_GetAttrString(type, name);
    if (slot == NULL)
        return -1;
    int failed = !Py_IS_TYPE(slot, &PyMemberDescr_Type);
    if (failed)
        PyErr_Format(PyExc_TypeError, "%s is not a slot", name);
    else
        *into = ((PyMemberDescrObject *)slot)->d_member->offset;
    Py_DECREF(slot);
    return failed ? -1 : 0;
}

static PyObject *setup_waits(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *prototype, *parts[7], **into[] = {&go.serials, &go.granted, &go.wait_for, &go.go_on,
                                                           &go.leave, &go.watch_end, &go.judge};
    if (!PyArg_ParseTuple(args, "OOOOOOOO:setup_waits", &prototype, &parts[0], &parts[1], &parts[2], &parts[3],
                          &parts[4], &parts[5], &parts[6]))
        return NULL;
    PyTypeObject *type = Py_TYPE(prototype);
    const struct {
        PyTypeObject *type;
        const char *name;
        Py_ssize_t *into;
    } fields[] = {{type, "agent", &go.agent},          {type, "resource", &go.resource},
                  {type, "code", &go.code},            {type, "lasti", &go.lasti},
                  {type, "since_ns", &go.since},       {type, "serial", &go.serial},
                  {type, "slot", &go.slot},            {type, "future", &go.future},
                  {type, "hold", &go.hold},            {type, "timer", &go.timer},
                  {aio.agent, "waits", &go.waits},     {aio.agent, "task_ref", &go.task_ref},
                  {aio.agent, "loop_ref", &go.loop_ref}, {aio.agent, "end_watched", &go.end_watched}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (find_offset((PyObject *)fields[i].type, fields[i].name, fields[i].into) < 0)
            return NULL;
    }
    if (type->tp_dictoffset != 0 || type->tp_weaklistoffset != 0 || type->tp_itemsize != 0) {
        PyErr_SetString(PyExc_TypeError, "a wait is to have slots, and nothing else");
        return NULL;
    }
    for (size_t i = 0; i < sizeof into / sizeof *into; i++)
        Py_XSETREF(*into[i], Py_NewRef(parts[i]));
    Py_XSETREF(go.wait, (PyTypeObject *)Py_NewRef(type));
    Py_XSETREF(go.prototype, Py_NewRef(prototype));
    Py_RETURN_NONE;
}

static PyType_Slot waiting_slots[] = {
    {Py_tp_dealloc, (void *)waiting_dealloc}, {Py_tp_traverse, (void *)waiting_traverse},
    {Py_tp_iter, (void *)PyObject_SelfIter},  {Py_tp_iternext, (void *)waiting_next},
    {Py_am_await, (void *)PyObject_SelfIter}, {Py_am_send, (void *)waiting_send},
    {Py_tp_methods, (void *)waiting_methods}, {Py_tp_getset, (void *)waiting_getset},
    {0, NULL}};
static PyType_Spec waiting_spec = {"lockwatch._core._fastpath.Waiting", sizeof(Waiting), 0,
                                   Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                                   waiting_slots};

static int add_waiting_type(PyObject *module)
{
    const struct {
        PyObject **into;
        const char *text;
    } names[] = {{&go.str_loop, "_loop"},           {&go.str_create_future, "create_future"},
                 {&go.str_blocking, "_asyncio_future_blocking"},
                 {&go.str_look, "look_first"},            {&go.str_end, "end"},
                 {&go.str_fut_waiter, "_fut_waiter"}, {&go.str_done, "done"},
                 {&go.str_cancelled, "cancelled"},  {&go.str_set_result, "set_result"},
                 {&go.str_send, "send"},            {&go.str_throw, "throw"},
                 {&go.str_close, "close"},          {&go.str_threshold, "starvation_threshold_ns"},
                 {&go.str_hold, "hold"},            {&go.str_future, "future"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        *names[i].into = PyUnicode_InternFromString(names[i].text);
    go.zero = PyLong_FromLong(0);
    return add_type(module, &go.waiting, &waiting_spec, NULL);
}
