/* What all threads run, read while all of them stand still: without the GIL. Part of _fastpath.c.

A frame of another thread that runs cannot be followed to the one that called it: its memory is given to the next call
meanwhile. Python's own `frame.f_back` does, and has crashed. So the world is stopped, by the only way that the API has,
`PyUnstable_GC_VisitObjects`, which calls back for each object; the first call reads all stacks, and is the last.
While the world stands nothing of Python's is allocated, or dropped, and no lock taken: references are counted, and
pointers kept in memory of C's. */

#if defined(Py_GIL_DISABLED) && KNOWN_FRAMES
typedef struct {
    unsigned long ident;
    PyObject *code, *globals; /* strong */
} Level;

typedef struct {
    PyThreadState *me;
    Level *levels;
    size_t count, room;
    int done;
} Levels;

static void read_stack(Levels *all, PyThreadState *state)
{
    for (FrameHead *frame = TOP_FRAME(state); frame != NULL; frame = frame->previous) {
        if (FRAME_CODE(frame) == NULL || !is_python(frame) || frame->globals == NULL)
            continue;
        if (all->count < all->room) /* else it is only counted: once more, with more room */
            all->levels[all->count] =
                (Level){state->thread_id, Py_NewRef(FRAME_CODE(frame)), Py_NewRef(frame->globals)};
        all->count++;
    }
}

static int read_stacks(PyObject *Py_UNUSED(object), void *into)
{
    Levels *all = into;
    if (!all->done) {
        all->done = 1;
        for (PyThreadState *state = all->me; state != NULL; state = state->next)
            read_stack(all, state);
        for (PyThreadState *state = all->me->prev; state != NULL; state = state->prev)
            read_stack(all, state);
    }
    return 0; /* no further object */
}

static void drop_levels(Levels *all)
{
    size_t kept = all->count < all->room ? all->count : all->room;
    for (size_t i = 0; i < kept; i++) {
        Py_DECREF(all->levels[i].code);
        Py_DECREF(all->levels[i].globals);
    }
    free(all->levels);
}

static int add_level(PyObject *stacks, const Level *level)
{
    PyObject *ident = PyLong_FromUnsignedLong(level->ident), *fresh = PyList_New(0), *list = NULL;
    PyObject *pair = PyTuple_Pack(2, level->code, level->globals);
    int done = -1;
    if (ident != NULL && fresh != NULL && pair != NULL && (list = PyDict_SetDefault(stacks, ident, fresh)) != NULL)
        done = PyList_Append(list, pair);
    Py_XDECREF(ident);
    Py_XDECREF(fresh);
    Py_XDECREF(pair);
    return done;
}

static PyObject *stacks(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    Levels all = {CURRENT_STATE(), NULL, 0, 1024, 0};
    for (;;) {
        all.levels = malloc(all.room * sizeof(Level));
        if (all.levels == NULL)
            return PyErr_NoMemory();
        all.count = 0;
        all.done = 0;
        PyUnstable_GC_VisitObjects(read_stacks, &all);
        if (all.count <= all.room)
            break;
        size_t needed = all.count * 2;
        drop_levels(&all);
        all.room = needed;
    }
    PyObject *found = PyDict_New();
    for (size_t i = 0; found != NULL && i < all.count; i++)
        if (add_level(found, &all.levels[i]) < 0)
            Py_CLEAR(found);
    drop_levels(&all);
    return found;
}
#endif
