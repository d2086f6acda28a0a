/* The uncontended lock in C: the twin of lockwatch/_core/twin.py, which is the reference for its behaviour.

State table (`owner` is the record of the agent that owns the lock; `hold` its tuple, made when somebody asks):

  owner     hold   queue    meaning                     who acts next
  --------  -----  -------  --------------------------  -------------------------------------------------------
  NULL      NULL   empty    free                        anyone, by compare-and-swap (here)
  record    NULL   empty    held, nobody has looked     the owner: a store and a pop (here)
  record    tuple  empty    held, and looked at, or     the owner: the same, and the tuple goes (here)
                            taken by the slow path
  record    tuple  waiters  held, somebody waits        the owner: release_slow() in handover.py
  NULL      NULL   waiters  freed, the head is awake    the head and, in normal mode, any newcomer (here)
  TRANSIT   NULL   any      changing hands: lasts a     whoever changes it; others wait for some instructions
                            few instructions (no GIL)

Materialising. The slow path, the detector and reports want holds: tuples whose identity is their serial number
(holds.py). The fast path makes none. It notes owner, code object, instruction and manner in the lock and the lock
in its thread's list; `current_hold` makes a tuple of that when it is asked for and keeps it until the release. So a
hold is one object for as long as it lasts, and mutex.py works on `lock._state` (a view with the methods of the
twin's dictionary) without knowing which twin it has. A lock is in the list of an agent's record exactly while the
agent owns it; `Agent.holds` (heldtable.py) reads the list.

Invariants, beside F1 to F3 of twin.py and M1 to M9 of mutex.py
  C1  With the GIL, no Python code runs and nothing is allocated as a container (which could run the collector)
      between the look at `owner` and the last store; what is replaced is released after it.
  C2  Without the GIL, every field of a held lock, and the owner's list, are read and written under the guard of the
      owner's record: a byte taken by exchange (acquire) and given back by a store (release). Nothing under a guard
      detaches the thread, waits or runs Python code, so a guard is free again after a few instructions, also for a
      thread that must not reach a safe point before.
  C3  `owner` goes from NULL by compare-and-swap only, and from a record only under that record's guard. So who holds
      the guard and reads the record in `owner` may rely on it until the guard is given back.
  C4  Records are never freed, only used again; a stale pointer to one is safe to lock, and C3 tells that it is stale.
  C5  F1 without the GIL: the release exchanges `owner` and then loads the queue's length, both seq_cst; a waiter
      appends, passes a seq_cst fence (each operation of the view begins with one) and then reads `owner`. One of the
      two sees the other.
  C6  A lock's memory goes after it was taken from its owner's list under the guard. A reader of the list takes its
      reference under the guard, and only if the count is not zero.
  C7  A record refers to its agent until the thread ends; at the end all that it still holds gets tuples, which do.

Lock order. Each lock in a record's list has a number for the chain from the list's beginning to it, and each record a
table of the chains whose order is known, which grows with them; lockorder.py is asked about the others. The table is
its agent's own; it is forgotten by a new salt, which anybody may store.

Fork: the child resets the guards, as a thread that is gone may have been within one. The list is an array, and
whole at every instruction.

Cost: the clock costs as much as the rest, so it is looked at for each acquire only while the thread makes few of them
(one in 4 us), else for one of up to 64. A hold without a time says when it was first looked at (`NoLaterThan`), which
is no later than its agent's own wait. The call site is stored only if it is not the one that is there already, so a used lock
keeps the code object of its last user alive. Interpreter: the main one only; a subinterpreter is refused, and uses
the twin.

Parts: _fastpath_holds.h (the structures, guards, records, holds), _fastpath_record.h (records as objects), _fastpath_frames.h
(call sites), _fastpath_stacks.h (what other threads run), _fastpath_view.h (`lock._state`), _fastpath_waiters.h (releases
beside waiters, Condition), _fastpath_queue.h (SimpleQueue), _fastpath_turns.h (semaphores with one permit),
_fastpath_tasks.h (the lock of tasks, which has nothing of the above but the call site), _fastpath_waiting.h (waiting for
that one), _fastpath_work.h (which work of pools comes after which). */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <frameobject.h>
#include <stddef.h>
#include <stdint.h>
#include <structmember.h>
#include <time.h>

#if !defined(__GNUC__)
#error "needs the atomics of GCC or Clang; without this module the Python twin runs"
#endif
#if PY_VERSION_HEX < 0x030B0000
#error "needs CPython 3.11"
#endif

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

#include "_fastpath_holds.h"
#include "_fastpath_frames.h"
#include "_fastpath_stacks.h"
#include "_fastpath_tasks.h"
#include "_fastpath_waiting.h"

static PyObject *call_through(PyObject *what, Mutex *m, PyObject *hold);

/* ---- acquire ---------------------------------------------------------------------------------------------------- */

/* Take the lock if it is free: 1 if so, or 2 if the order of the locks now held was not seen yet. In starvation mode a
   newcomer does not try while others wait (M5). */
static inline int take(Mutex *m, Record *me, const Site *site, int with)
{
    PyObject *old = NULL;
    int taken = 1;
    if (OWNER(m) != NULL || (queued(m) && STARVING(m)))
        return 0;
    lock_guard(&me->guard);
    if (!claim(m, me)) {
        unlock_guard(&me->guard);
        return 0;
    }
    m->lasti = site->lasti;
    m->with = (char)with;
    m->since = UNLIKELY(--me->credit < 0) ? look_at_clock(me) : 0;
    if (UNLIKELY(m->code != site->code)) {
        old = m->code;
        m->code = Py_NewRef(site->code);
    }
    list_push(me, m);
    if (UNLIKELY(me->count > 1) && !order_is_known(me, m->chain))
        taken = 2;
    unlock_guard(&me->guard);
    m->acquisitions++;
    if (UNLIKELY(old != NULL))
        Py_DECREF(old); /* the last thing: its weak references may have callbacks */
    return taken;
}

/* Have the order of the locks now held learned, by lockorder.py; if that raises, the lock is released again. */
static Py_NO_INLINE PyObject *learn_order(Mutex *m, Record *me)
{
    PyObject *hold = current_hold(m), *kind, *value, *trace;
    if (hold == NULL || me->agent == NULL) {
        Py_XDECREF(hold);
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_True); /* another thread released it meanwhile */
    }
    uint64_t salt = SALT(me), chain = m->chain;
    PyObject *args[] = {PyTuple_GET_ITEM(hold, 0), (PyObject *)m, hold};
    PyObject *tally = PyObject_Vectorcall(core.learn_order, args, 3, NULL);
    if (tally == NULL) {
        PyErr_Fetch(&kind, &value, &trace);
        Py_XDECREF(call_through(core.release_slow, m, hold));
        PyErr_Restore(kind, value, trace);
        Py_DECREF(hold);
        return NULL;
    }
    Py_DECREF(hold);
    if (tally == Py_False || (PyByteArray_CheckExact(tally) &&
                              PyByteArray_GET_SIZE(tally) == (Py_ssize_t)(2 * sizeof(long long))))
        note_known(me, chain, salt, tally);
    Py_DECREF(tally);
    Py_RETURN_TRUE;
}

/* The slow path, which is Python; `limit` is a time-out in nanoseconds (an int object) or None. */
static PyObject *take_slowly(Mutex *m, Record *me, const Site *site, int with, PyObject *limit)
{
    PyObject *result = NULL;
    if (me->count) { /* what we hold was taken no later than this wait began */
        PyObject *list = held(me);
        if (list == NULL)
            return NULL;
        Py_DECREF(list);
    }
    PyObject *weak = PyWeakref_NewRef((PyObject *)m, NULL);
    PyObject *since = now_ns(), *lasti = PyLong_FromLong(site->lasti), *agent = Py_XNewRef(me->agent);
    if (weak != NULL && since != NULL && lasti != NULL && agent != NULL) {
        PyObject *hold = PyTuple_Pack(6, agent, weak, site->code, lasti, since, with ? Py_True : Py_False);
        if (hold != NULL) {
            PyObject *args[] = {(PyObject *)m, hold, limit};
            result = PyObject_Vectorcall(core.acquire_slow, args, 3, NULL);
            Py_DECREF(hold);
        }
    }
    Py_XDECREF(weak);
    Py_XDECREF(since);
    Py_XDECREF(lasti);
    Py_XDECREF(agent);
    if (result == Py_True && limit == Py_None) {
        lock_guard(&me->guard);
        int known = me->count < 2 || OWNER(m) != me || order_is_known(me, m->chain);
        unlock_guard(&me->guard);
        if (!known) {
            Py_DECREF(result);
            return learn_order(m, me);
        }
    }
    return result;
}

/* Somebody has the lock. */
static Py_NO_INLINE PyObject *take_contended(Mutex *m, Record *me, const Site *site, int with, PyObject *limit)
{
#ifdef Py_GIL_DISABLED
    /* Go's rule 3: the owner runs, most likely, and is done in a moment; unlike Go it looks after each pause, as sections
       of Python are short and the lock is free for some nanoseconds only */
    for (int turn = 0; turn < 4 && !STARVING(m) && OWNER(m) != me; turn++) {
        for (int i = 0; i < 30 && OWNER(m) != NULL; i++)
            pause_cpu();
        int taken = take(m, me, site, with);
        if (taken == 2 && limit == Py_None)
            return learn_order(m, me);
        if (taken)
            Py_RETURN_TRUE;
    }
#endif
    return take_slowly(m, me, site, with, limit);
}

#define ENTER(m, with)                                            \
    PyThreadState *state = CURRENT_STATE();                       \
    Record *me = find_record(state);                              \
    Site site;                                                    \
    if (UNLIKELY(me == NULL))                                     \
        return NULL;                                              \
    find_site(state, &site, with);

static inline PyObject *acquire_plainly(Mutex *m, int with, int recursive)
{
    ENTER(m, with)
    int taken = take(m, me, &site, with);
    if (LIKELY(taken == 1))
        Py_RETURN_TRUE;
    if (taken)
        return learn_order(m, me);
    if (recursive && OWNER(m) == me) {
        m->count++;
        Py_RETURN_TRUE;
    }
    return take_contended(m, me, &site, with, Py_None);
}

static PyObject *try_to_acquire(Mutex *m)
{
    ENTER(m, 0)
    if (take(m, me, &site, 0))
        Py_RETURN_TRUE;
    if (m->recursive && OWNER(m) == me) {
        m->count++;
        Py_RETURN_TRUE;
    }
    Py_RETURN_FALSE;
}

static Py_NO_INLINE PyObject *acquire_with(Mutex *m, PyObject *const *args, Py_ssize_t given, PyObject *names)
{
    PyObject *found[2] = {Py_True, NULL};
    static const char *const keywords[2] = {"blocking", "timeout"};
    if (given > 2)
        return PyErr_Format(PyExc_TypeError, "acquire() takes at most 2 arguments (%zd given)", given);
    for (Py_ssize_t i = 0; i < given; i++)
        found[i] = args[i];
    for (Py_ssize_t i = 0; names != NULL && i < PyTuple_GET_SIZE(names); i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        int which = 0;
        while (which < 2 && PyUnicode_CompareWithASCIIString(name, keywords[which]) != 0)
            which++;
        if (which == 2)
            return PyErr_Format(PyExc_TypeError, "acquire() got an unexpected keyword argument '%U'", name);
        if (which < given)
            return PyErr_Format(PyExc_TypeError, "acquire() got multiple values for argument '%U'", name);
        found[which] = args[given + i];
    }
    if (found[1] == NULL && found[0] == Py_True)
        return acquire_plainly(m, 0, m->recursive);
    if (found[1] == NULL && found[0] == Py_False)
        return try_to_acquire(m);
    PyObject *usual = found[1] == NULL ? PyLong_FromLong(-1) : Py_NewRef(found[1]);
    if (usual == NULL)
        return NULL;
    PyObject *values[] = {found[0], usual}, *result;
    PyObject *limit = PyObject_Vectorcall(core.check_timeout, values, 2, NULL);
    Py_DECREF(usual);
    if (limit == NULL)
        return NULL;
    if (limit == Py_None)
        result = acquire_plainly(m, 0, m->recursive);
    else {
        result = try_to_acquire(m);
        int zero = !PyObject_IsTrue(limit);
        if (result == Py_False && !zero) {
            Py_DECREF(result);
            PyThreadState *state = CURRENT_STATE();
            Record *me = find_record(state);
            Site site;
            find_site(state, &site, 0);
            result = me == NULL ? NULL : take_contended(m, me, &site, 0, limit);
        }
    }
    Py_DECREF(limit);
    return result;
}

/* ---- release ---------------------------------------------------------------------------------------------------- */

static PyObject *get_key(PyObject *self, void *Py_UNUSED(none))
{
    return PyLong_FromUnsignedLongLong(((Mutex *)self)->serial);
}

/* Call release_slow or wake_next; if that is interrupted it is completed first (F3). */
static PyObject *call_through(PyObject *what, Mutex *m, PyObject *hold)
{
    PyObject *args[] = {(PyObject *)m, hold}, *kind, *value, *trace;
    size_t count = hold == NULL ? 1 : 2;
    PyObject *result = PyObject_Vectorcall(what, args, count, NULL);
    if (result == NULL) {
        PyErr_Fetch(&kind, &value, &trace);
        PyObject *again = PyObject_Vectorcall(what, args, count, NULL);
        if (again == NULL)
            PyErr_Clear();
        Py_XDECREF(again);
        PyErr_Restore(kind, value, trace);
        return NULL;
    }
    Py_DECREF(result);
    Py_RETURN_NONE;
}

/* Free a lock that the caller owns; 0 if it does not any more. */
static inline int free_it(Mutex *m, Record *me)
{
    lock_guard(&me->guard);
#ifdef Py_GIL_DISABLED
    if (OWNER(m) != me) { /* a plain lock may be released by another thread at the same time */
        unlock_guard(&me->guard);
        return 0;
    }
#endif
    PyObject *hold = m->hold;
    m->hold = NULL;
    list_remove(me, m);
    SET_OWNER(m, NULL);
    unlock_guard(&me->guard);
    if (UNLIKELY(hold != NULL))
        Py_DECREF(hold);
    return 1;
}

/* Let go of a lock that the caller owns and nobody waits for; 0 if it is not so. */
static inline int let_go(Mutex *m, Record *me)
{
    return OWNER(m) == me && !queued(m) && free_it(m, me);
}

#ifdef Py_GIL_DISABLED
#define LET_GO(m) return queued(m) ? call_through(core.wake_next, (m), NULL) : Py_NewRef(Py_None) /* F1 */
#else
#define LET_GO(m) Py_RETURN_NONE /* nobody can have come in between */
#endif

static PyObject *refuse(Mutex *m, PyObject *hold)
{
    return PyObject_CallMethodOneArg((PyObject *)m, core.str_refuse_release, hold == NULL ? Py_None : hold);
}

/* Everything that let_go() leaves: waiters, another thread's lock, a free one. */
static Py_NO_INLINE PyObject *release_otherwise(Mutex *m, Record *me, int by_exit)
{
    PyObject *result = NULL, *hold = current_hold(m);
    if (hold == NULL)
        return PyErr_Occurred() ? NULL : refuse(m, NULL);
    PyObject *owner = PyTuple_GET_ITEM(hold, 0);
    if (m->recursive) {
        if (owner != me->agent) {
            result = refuse(m, hold);
            goto done;
        }
        if (m->count) {
            m->count--;
            result = Py_NewRef(Py_None);
            goto done;
        }
    } else if (!by_exit && owner != me->agent) {
        PyObject *noted = PyObject_CallMethodNoArgs((PyObject *)m, core.str_became_signal);
        if (noted == NULL) {
            PyObject *kind, *value, *trace;
            PyErr_Fetch(&kind, &value, &trace);
            Py_XDECREF(call_through(core.release_slow, m, hold)); /* F3 */
            PyErr_Restore(kind, value, trace);
            goto done;
        }
        Py_DECREF(noted);
    }
    if (OWNER(m) == &foreign) { /* an agent with a table of its own */
        PyObject *holds = PyObject_GetAttr(owner, core.str_holds), *key = get_key((PyObject *)m, NULL);
        PyObject *popped =
            holds && key ? PyObject_CallMethodObjArgs(holds, core.str_pop, key, Py_None, NULL) : NULL;
        Py_XDECREF(holds);
        Py_XDECREF(key);
        Py_XDECREF(popped);
        PyErr_Clear();
    }
    result = call_through(core.release_slow, m, hold);
done:
    Py_DECREF(hold);
    return result;
}

#include "_fastpath_waiters.h"

static inline PyObject *release_any(Mutex *m, int by_exit, int recursive)
{
    Record *me = find_record(CURRENT_STATE());
    if (UNLIKELY(me == NULL))
        return NULL;
    if (recursive && m->count && OWNER(m) == me) {
        m->count--;
        Py_RETURN_NONE;
    }
    if (LIKELY(let_go(m, me))) {
        LET_GO(m);
    }
    PyObject *done = release_beside(m, me);
    if (done != NULL || PyErr_Occurred())
        return done;
    return release_otherwise(m, me, by_exit);
}

/* ---- methods: one set for each kind, so that `recursive` is a constant in it ------------------------------------ */

#define METHODS(kind, recursive)                                                                                   \
    static PyObject *kind##_acquire(PyObject *self, PyObject *const *args, Py_ssize_t given, PyObject *names)      \
    {                                                                                                              \
        if (LIKELY(given == 0 && names == NULL))                                                                   \
            return acquire_plainly((Mutex *)self, 0, recursive);                                                   \
        return acquire_with((Mutex *)self, args, given, names);                                                    \
    }                                                                                                              \
    static PyObject *kind##_enter(PyObject *self, PyObject *Py_UNUSED(none))                                       \
    {                                                                                                              \
        return acquire_plainly((Mutex *)self, 1, recursive);                                                       \
    }                                                                                                              \
    static PyObject *kind##_release(PyObject *self, PyObject *Py_UNUSED(none))                                     \
    {                                                                                                              \
        return release_any((Mutex *)self, 0, recursive);                                                           \
    }                                                                                                              \
    static PyObject *kind##_exit(PyObject *self, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(given))    \
    {                                                                                                              \
        return release_any((Mutex *)self, 1, recursive);                                                           \
    }

METHODS(plain, 0)
METHODS(recursive, 1)

static PyObject *method_try(PyObject *self, PyObject *Py_UNUSED(none)) { return try_to_acquire((Mutex *)self); }

static PyObject *method_locked(PyObject *self, PyObject *Py_UNUSED(none))
{
    return PyBool_FromLong(OWNER((Mutex *)self) != NULL);
}

static PyObject *recursive_is_owned(PyObject *self, PyObject *Py_UNUSED(none))
{
    Record *me = find_record(CURRENT_STATE());
    return me == NULL ? NULL : PyBool_FromLong(OWNER((Mutex *)self) == me);
}

#define DOC_ACQUIRE                                                                                                \
    "acquire($self, /, blocking=True, timeout=-1)\n--\n\nTake the lock, waiting until it is free; return whether " \
    "it was taken.\n\nRaises DeadlockError if waiting would never end and this thread is the victim; a wait with " \
    "a time-out never does."
#define DOC_RELEASE "release($self, /)\n--\n\nLet go of the lock."
#define DOC_LOCKED "locked($self, /)\n--\n\nReturn whether somebody owns the lock."
#define DOC_TRY                                                                                                    \
    "try_acquire($self, /)\n--\n\nTake the lock if that needs no waiting; return whether it was taken.\n\n"        \
    "Never overtakes waiters in starvation mode."

static PyMethodDef plain_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))plain_acquire, METH_FASTCALL | METH_KEYWORDS, DOC_ACQUIRE},
    {"release", plain_release, METH_NOARGS, DOC_RELEASE},
    {"__enter__", plain_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))plain_exit, METH_FASTCALL, NULL},
    {"locked", method_locked, METH_NOARGS, DOC_LOCKED},
    {"try_acquire", method_try, METH_NOARGS, DOC_TRY},
    {"_is_owned", method_locked, METH_NOARGS, "Return whether the lock is locked, for Condition."},
    {"acquire_lock", (PyCFunction)(void (*)(void))plain_acquire, METH_FASTCALL | METH_KEYWORDS, DOC_ACQUIRE},
    {"release_lock", plain_release, METH_NOARGS, DOC_RELEASE},
    {"locked_lock", method_locked, METH_NOARGS, DOC_LOCKED},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef recursive_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))recursive_acquire, METH_FASTCALL | METH_KEYWORDS, DOC_ACQUIRE},
    {"release", recursive_release, METH_NOARGS, DOC_RELEASE},
    {"__enter__", recursive_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))recursive_exit, METH_FASTCALL, NULL},
    {"locked", method_locked, METH_NOARGS, DOC_LOCKED},
    {"try_acquire", method_try, METH_NOARGS, DOC_TRY},
    {"_is_owned", recursive_is_owned, METH_NOARGS, "Return whether the calling thread owns the lock."},
    {"_release_save", recursive_release_save, METH_NOARGS, "Let go of all levels; return what takes them again."},
    {"_acquire_restore", recursive_acquire_restore, METH_O, "Take the lock again as it was before _release_save()."},
    {NULL, NULL, 0, NULL},
};

/* ---- the lock as an object -------------------------------------------------------------------------------------- */

static uint64_t serials;

static PyObject *next_serial(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    return PyLong_FromUnsignedLongLong(__atomic_add_fetch(&serials, 1, __ATOMIC_RELAXED));
}

static PyObject *mutex_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(named))
{
    Mutex *m = (Mutex *)type->tp_alloc(type, 0); /* zeroed: free, nobody waits */
    if (m != NULL) {
        m->recursive = PyType_IsSubtype(type, core.recursive) != 0;
        m->serial = __atomic_add_fetch(&serials, 1, __ATOMIC_RELAXED);
        enable_try_incref((PyObject *)m);
    }
    return (PyObject *)m;
}

/* The globals of modules that are machinery, as far as they were met: kept for good, so that no other dictionary comes to
   stand at their address. */
static PyObject *machines[16];

/* Whether a frame is machinery; -1 if its module was not met before. */
static int is_machine(FrameHead *frame)
{
    PyObject *globals = frame->globals, *nobody = NULL;
    const int most = (int)(sizeof machines / sizeof *machines);
    int i = 0;
    for (PyObject *one; i < most && (one = __atomic_load_n(&machines[i], __ATOMIC_RELAXED)) != NULL; i++) {
        if (one == globals)
            return 1;
    }
    PyObject *module = PyDict_GetItemWithError(globals, core.str_module), *known = NULL;
    if (module != NULL && PyUnicode_CheckExact(module))
        known = PyDict_GetItemWithError(core.machinery, module);
    if (known == Py_True && i < most &&
        __atomic_compare_exchange_n(&machines[i], &nobody, globals, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        Py_INCREF(globals);
    return known == NULL ? -1 : known == Py_True;
}

/* The frame in which a lock is made, if it is found at once as `_made` finds it: the first that is not machinery. */
static FrameHead *makers_frame(FrameHead *frame)
{
    for (; frame != NULL && core.machinery != NULL; frame = frame->previous) {
        if (!is_python(frame))
            continue;
        int machine = is_machine(frame);
        if (machine < 0)
            break;
        if (!machine || ((PyCodeObject *)FRAME_CODE(frame))->co_name == core.str_toplevel)
            return frame;
    }
    PyErr_Clear();
    return NULL;
}

/* Note the name and the place where the lock is made. The usual case here, the others in Python (`_made`). */
static int mutex_init(PyObject *self, PyObject *args, PyObject *named)
{
    Mutex *m = (Mutex *)self;
    PyObject *name = NULL, *done;
    Py_ssize_t left = named == NULL ? 0 : PyDict_GET_SIZE(named);
    if (left) {
        name = PyDict_GetItemWithError(named, core.str_name);
        if (name == NULL && PyErr_Occurred())
            return -1;
        left -= name != NULL;
    }
    if (UNLIKELY(left || PyTuple_GET_SIZE(args))) {
        done = PyObject_CallMethodNoArgs(self, core.str_odd_arguments);
        if (done == NULL)
            return -1;
        Py_DECREF(done);
    }
    PyThreadState *state = CURRENT_STATE();
    FrameHead *frame = TOP_FRAME(state);
    if ((name == NULL || name == Py_None) && KNOWN_FRAMES && (frame = makers_frame(frame)) != NULL) {
        PyObject *code = FRAME_CODE(frame), *old = m->created;
        m->created_lasti = lasti_of(frame, code);
        m->created = Py_NewRef(code);
        Py_XDECREF(old);
        return 0;
    }
    done = PyObject_CallMethod(self, "_made", "iO", 0, name == NULL ? Py_None : name);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Tell leftovers.py about a lock that dies; `hold` and `agent` are its owner's, or NULL. */
static Py_NO_INLINE void tell_dropped(Mutex *m, PyObject *hold, PyObject *agent)
{
    PyObject *kind, *value, *trace, *code = m->code;
    int lasti = m->lasti, with = m->with;
    PyErr_Fetch(&kind, &value, &trace);
    if (hold != NULL) {
        agent = PyTuple_GET_ITEM(hold, 0);
        code = PyTuple_GET_ITEM(hold, 2);
        lasti = (int)PyLong_AsLong(PyTuple_GET_ITEM(hold, 3));
        with = PyTuple_GET_ITEM(hold, 5) == Py_True;
    }
    PyObject *done = PyObject_CallFunction(
        core.dropped, "OOOiOOiOL", Py_TYPE(m), m->name == NULL ? Py_None : m->name,
        m->created == NULL ? Py_None : m->created, m->created_lasti, agent == NULL ? Py_None : agent,
        code == NULL ? Py_None : code, lasti, with ? Py_True : Py_False, m->acquisitions);
    if (done == NULL)
        PyErr_Clear();
    Py_XDECREF(done);
    PyErr_Restore(kind, value, trace);
}

/* A lock dies that was taken last where it was made: perhaps nobody else could see it. Asked once in a row for a place. */
static inline int is_news(Mutex *m)
{
    static uintptr_t last;
    uintptr_t place = (uintptr_t)m->created + (uintptr_t)m->created_lasti;
    if (LIKELY(m->created != m->code || m->code == NULL) || __atomic_load_n(&last, __ATOMIC_RELAXED) == place)
        return 0;
    __atomic_store_n(&last, place, __ATOMIC_RELAXED);
    return 1;
}

static void mutex_dealloc(PyObject *self)
{
    Mutex *m = (Mutex *)self;
    PyTypeObject *type = Py_TYPE(self);
    Record *owner = OWNER(m);
    if (UNLIKELY(owner != NULL)) { /* dropped while held: the owner's list would keep it for ever (C6) */
        lock_guard(&owner->guard);
        PyObject *agent = Py_XNewRef(owner->agent);
        unlock_guard(&owner->guard);
        PyObject *hold = detach(m);
        if (core.dropped != NULL && !m->signal)
            tell_dropped(m, hold, agent);
        Py_XDECREF(hold);
        Py_XDECREF(agent);
    } else if (core.dropped != NULL && is_news(m))
        tell_dropped(m, NULL, NULL);
    if (m->weakrefs != NULL)
        PyObject_ClearWeakRefs(self);
    Py_XDECREF(m->hold);
    Py_XDECREF(m->code);
    Py_XDECREF(m->created);
    Py_XDECREF(m->name);
    Py_XDECREF(m->queue);
    type->tp_free(self);
    Py_DECREF(type);
}

/* For subclasses made in Python, which the collector tracks, and for whoever asks it who refers to what. Nothing is
   cleared: a cycle through a lock goes through a waiter, too. (Not inherited where the base is not tracked.) */
static int mutex_traverse(PyObject *self, visitproc visit, void *arg)
{
    Mutex *m = (Mutex *)self;
    Py_VISIT(m->hold);
    Py_VISIT(m->code);
    Py_VISIT(m->created);
    Py_VISIT(m->name);
    Py_VISIT(m->queue);
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static PyObject *get_queue(PyObject *self, void *Py_UNUSED(none))
{
    Mutex *m = (Mutex *)self;
    if (QUEUE(m) == NULL) {
        PyObject *list = PyList_New(0);
        if (list == NULL)
            return NULL;
#ifdef Py_GIL_DISABLED
        PyObject *nothing = NULL;
        if (!__atomic_compare_exchange_n(&m->queue, &nothing, list, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            Py_DECREF(list);
#else
        if (m->queue == NULL)
            m->queue = list;
        else
            Py_DECREF(list); /* the collector ran, and with it somebody who came to wait */
#endif
    }
    return Py_NewRef(QUEUE(m));
}

static PyObject *get_view(PyObject *self, void *Py_UNUSED(none))
{
    View *view = PyObject_New(View, core.view);
    if (view != NULL)
        view->lock = (Mutex *)Py_NewRef(self);
    return (PyObject *)view;
}

static PyObject *get_ref(PyObject *self, void *Py_UNUSED(none)) { return PyWeakref_NewRef(self, NULL); }

static PyObject *get_created(PyObject *self, void *Py_UNUSED(none))
{
    Mutex *m = (Mutex *)self;
    if (m->created == NULL)
        Py_RETURN_NONE;
    return Py_BuildValue("Oi", m->created, m->created_lasti);
}

static int set_created(PyObject *self, PyObject *value, void *Py_UNUSED(none))
{
    Mutex *m = (Mutex *)self;
    PyObject *code = NULL, *old = m->created;
    int lasti = 0;
    if (value != NULL && value != Py_None && !PyArg_ParseTuple(value, "Oi:_created", &code, &lasti))
        return -1;
    m->created_lasti = lasti;
    m->created = Py_XNewRef(code);
    Py_XDECREF(old);
    return 0;
}

static PyGetSetDef mutex_getset[] = {
    {"_queue", get_queue, NULL, NULL, NULL},
    {"_state", get_view, NULL, NULL, NULL},
    {"_key", get_key, NULL, NULL, NULL},
    {"_ref", get_ref, NULL, NULL, NULL},
    {"_created", get_created, set_created, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef mutex_members[] = {
    {"_starving", T_BOOL, offsetof(Mutex, starving), 0, NULL},
    {"_signal", T_BOOL, offsetof(Mutex, signal), 0, NULL},
    {"_acquisitions", T_LONGLONG, offsetof(Mutex, acquisitions), 0, NULL},
    {"_contended", T_UINT, offsetof(Mutex, contended), 0, NULL},
    {"_handoffs", T_UINT, offsetof(Mutex, handoffs), 0, NULL},
    {"_count", T_INT, offsetof(Mutex, count), 0, NULL},
    {"_name", T_OBJECT, offsetof(Mutex, name), 0, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Mutex, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

#include "_fastpath_view.h"

#include "_fastpath_record.h"

/* ---- the module ------------------------------------------------------------------------------------------------- */

/* A type's methods are called fastest on the very type that they were made for: CPython specialises no other call. */
static PyObject *add_methods(PyTypeObject *type, PyMethodDef *methods)
{
    for (PyMethodDef *def = methods; def->ml_name != NULL; def++) {
        PyObject *method = PyDescr_NewMethod(type, def);
        if (method == NULL || PyObject_SetAttrString((PyObject *)type, def->ml_name, method) < 0) {
            Py_XDECREF(method);
            return NULL;
        }
        Py_DECREF(method);
    }
    return Py_NewRef(type);
}

static PyObject *specialise(PyObject *Py_UNUSED(module), PyObject *type)
{
    if (!PyType_Check(type) || !PyType_IsSubtype((PyTypeObject *)type, core.mutex)) {
        PyErr_SetString(PyExc_TypeError, "not a class of locks");
        return NULL;
    }
    int recursive = PyType_IsSubtype((PyTypeObject *)type, core.recursive);
    return add_methods((PyTypeObject *)type, recursive ? recursive_methods : plain_methods);
}

#include "_fastpath_queue.h"
#include "_fastpath_turns.h"
#include "_fastpath_work.h"

static PyObject *where(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    Site site;
    find_site(CURRENT_STATE(), &site, 0);
    return Py_BuildValue("Oi", site.code, site.lasti);
}

static PyObject *setup(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject **into[] = {&core.record_for, &core.acquire_slow, &core.release_slow, &core.wake_next,
                         &core.check_timeout, &core.no_later_than, &core.learn_order, &core.threading,
                         &core.waiter};
    const Py_ssize_t count = (Py_ssize_t)(sizeof into / sizeof *into);
    if (PyTuple_GET_SIZE(args) != count)
        return PyErr_Format(PyExc_TypeError, "setup() takes %zd arguments", count);
    for (Py_ssize_t i = 0; i < count; i++)
        Py_XSETREF(*into[i], Py_NewRef(PyTuple_GET_ITEM(args, i)));
    Py_RETURN_NONE;
}

static PyObject *set_machinery(PyObject *Py_UNUSED(module), PyObject *known)
{
    Py_XSETREF(core.machinery, Py_NewRef(known));
    Py_RETURN_NONE;
}

static PyObject *set_dropped(PyObject *Py_UNUSED(module), PyObject *function)
{
    Py_XSETREF(core.dropped, function == Py_None ? NULL : Py_NewRef(function));
    Py_RETURN_NONE;
}

static PyObject *after_fork(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    records_guard = foreign.guard = 0;
    aio.forked = 1;
    for (Record *r = records; r != NULL; r = r->next)
        r->guard = 0;
    Py_RETURN_NONE;
}

static PyMethodDef module_methods[] = {
    {"specialise", specialise, METH_O, "Give a subclass the methods as its own; return it."},
    {"specialise_queue", specialise_queue, METH_VARARGS, "Give a class of queues the methods; return it."},
    {"specialise_turns", specialise_turns, METH_O, "As specialise, for a class of turns of semaphores."},
    {"where", where, METH_NOARGS, "Return the caller's (code, lasti), for a comparison with sys._getframe()."},
#if defined(Py_GIL_DISABLED) && KNOWN_FRAMES
    {"stacks", stacks, METH_NOARGS, "Return what all threads run: ident -> [(code, globals), ...], innermost first."},
#endif
    {"setup", setup, METH_VARARGS, "Take the parts of the slow path that are Python."},
    {"current_agent", current_agent, METH_NOARGS, "Return the agent that runs."},
    {"specialise_tasks", specialise_tasks, METH_O, "As specialise, for a class of locks of tasks."},
    {"setup_waits", setup_waits, METH_VARARGS, "Take what waiting for a lock of tasks needs."},
    {"setup_tasks", setup_tasks, METH_VARARGS, "Take what the lock of tasks asks for the running agent."},
    {"set_machinery", set_machinery, METH_O, "Take the table of modules: name -> whether it makes locks for others."},
    {"set_dropped", set_dropped, METH_O, "Take who is told about locks that die held, or unseen by others; or None."},
    {"next_serial", next_serial, METH_NOARGS, "Return the number that a lock would have that is made now."},
    {"after_fork", after_fork, METH_NOARGS, "Free the guards of threads that did not come along."},
    {NULL, NULL, 0, NULL},
};

#define SLOT(id, value) {id, (void *)(value)}
#define END {0, NULL}
#define FLAGS (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE)

static PyType_Slot mutex_slots[] = {SLOT(Py_tp_new, mutex_new),         SLOT(Py_tp_init, mutex_init),
                                    SLOT(Py_tp_dealloc, mutex_dealloc), SLOT(Py_tp_getset, mutex_getset),
                                    SLOT(Py_tp_members, mutex_members), SLOT(Py_tp_traverse, mutex_traverse), END};
static PyType_Slot plain_slots[] = {SLOT(Py_tp_methods, plain_methods), SLOT(Py_tp_traverse, mutex_traverse), END};
static PyType_Slot recursive_slots[] = {SLOT(Py_tp_methods, recursive_methods), SLOT(Py_tp_traverse, mutex_traverse), END};
static PyType_Slot record_slots[] = {SLOT(Py_tp_new, record_object_new), SLOT(Py_tp_methods, record_methods),
                                     SLOT(Py_tp_dealloc, record_object_dealloc), END};
static PyType_Slot view_slots[] = {SLOT(Py_tp_methods, view_methods),     SLOT(Py_tp_dealloc, view_dealloc),
                                   SLOT(Py_tp_repr, view_repr),           SLOT(Py_mp_length, view_length),
                                   SLOT(Py_mp_ass_subscript, view_store), SLOT(Py_sq_contains, view_contains), END};
static PyType_Spec mutex_spec = {"lockwatch._core._fastpath.Mutex", sizeof(Mutex), 0, FLAGS, mutex_slots};
static PyType_Spec plain_spec = {"lockwatch._core._fastpath.PlainMutex", sizeof(Mutex), 0, FLAGS, plain_slots};
static PyType_Spec recursive_spec = {"lockwatch._core._fastpath.RecursiveMutex", sizeof(Mutex), 0, FLAGS,
                                     recursive_slots};
static PyType_Spec record_spec = {"lockwatch._core._fastpath.Record", sizeof(RecordObject), 0, Py_TPFLAGS_DEFAULT,
                                  record_slots};
static PyType_Spec view_spec = {"lockwatch._core._fastpath.State", sizeof(View), 0,
                                Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, view_slots};

static int add_type(PyObject *module, PyTypeObject **into, PyType_Spec *spec, PyTypeObject *base)
{
    *into = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, (PyObject *)base);
    return *into == NULL ? -1 : PyModule_AddType(module, *into);
}

static int execute(PyObject *module)
{
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_ImportError, "the C fast path serves the main interpreter only");
        return -1;
    }
    memset(&here, 0, sizeof here);
    if (add_type(module, &core.mutex, &mutex_spec, NULL) < 0 ||
        add_type(module, &core.plain, &plain_spec, core.mutex) < 0 ||
        add_type(module, &core.recursive, &recursive_spec, core.mutex) < 0 ||
        add_type(module, &core.record, &record_spec, NULL) < 0 ||
        add_type(module, &core.view, &view_spec, NULL) < 0 || add_task_types(module) < 0 ||
        add_waiting_type(module) < 0 || add_work_functions(module) < 0)
        return -1;
    core.native = (PyObject *)PyCode_NewEmpty("<native>", "<native>", 0);
    core.str_became_signal = PyUnicode_InternFromString("_became_signal");
    core.str_refuse_release = PyUnicode_InternFromString("_refuse_release");
    core.str_odd_arguments = PyUnicode_InternFromString("_odd_arguments");
    core.str_holds = PyUnicode_InternFromString("holds");
    core.str_record = PyUnicode_InternFromString("record");
    core.str_pop = PyUnicode_InternFromString("pop");
    core.str_name = PyUnicode_InternFromString("name");
    core.str_module = PyUnicode_InternFromString("__name__");
    core.str_toplevel = PyUnicode_InternFromString("<module>"); /* as the names of all code objects are */
    core.str_parker = PyUnicode_InternFromString("parker");
    core.str_agent = PyUnicode_InternFromString("agent");
    core.str_main = PyUnicode_InternFromString("main");
    core.str_awake = PyUnicode_InternFromString("awake");
    core.str_locked = PyUnicode_InternFromString("locked");
    core.str_release = PyUnicode_InternFromString("release");
    core.str_release_all = PyUnicode_InternFromString("_release_all");
    core.str_take_again = PyUnicode_InternFromString("_take_again");
    core.str_wake = PyUnicode_InternFromString("_wake");
    core.str_get_slowly = PyUnicode_InternFromString("_get_slowly");
    return PyErr_Occurred() ? -1 : 0;
}

static PyModuleDef_Slot module_slots[] = {
    SLOT(Py_mod_exec, execute),
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    END,
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "lockwatch._core._fastpath", NULL, 0, module_methods, module_slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__fastpath(void);
PyMODINIT_FUNC PyInit__fastpath(void) { return PyModuleDef_Init(&definition); }
