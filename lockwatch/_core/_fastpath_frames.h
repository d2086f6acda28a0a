/* Where a call comes from: code object and instruction of the calling frame, without making a frame object.

The frame is read directly, as the API costs as much as the rest of an acquire. Part of _fastpath.c. */

/* The head of CPython's interpreter frame: the same eight words from 3.12 to 3.15. fastpath.py compares what is read
   through it with sys._getframe() before it uses this module, and later versions go through the API. */
#if PY_VERSION_HEX < 0x030C0000
typedef struct frame_head {
    void *function;
    PyObject *globals;
    void *builtins, *locals;
    PyCodeObject *code;
    void *frame_object;
    struct frame_head *previous;
    char *instruction;
} FrameHead;
#define FRAME_CODE(frame) ((PyObject *)(frame)->code)
#else
typedef struct frame_head {
    uintptr_t code; /* from 3.14 on with tag bits */
    struct frame_head *previous;
    void *function;
    PyObject *globals;
    void *builtins, *locals, *frame_object;
    char *instruction;
} FrameHead;
#define FRAME_CODE(frame) ((PyObject *)((frame)->code & ~(uintptr_t)7))
#endif

#if PY_VERSION_HEX < 0x030D0000
#define CURRENT_STATE() _PyThreadState_UncheckedGet()
#define TOP_FRAME(state) ((FrameHead *)(state)->cframe->current_frame)
#else
#define CURRENT_STATE() PyThreadState_GetUnchecked()
#define TOP_FRAME(state) ((FrameHead *)(state)->current_frame)
#endif
#define KNOWN_FRAMES (PY_VERSION_HEX < 0x03100000)

typedef struct {
    PyObject *code; /* borrowed from the frame, which stands while we run */
    int lasti;
} Site;

static void site_by_api(Site *site)
{
    PyFrameObject *frame = PyEval_GetFrame();
    if (frame == NULL) {
        site->code = core.native;
        site->lasti = -1;
        return;
    }
    site->code = (PyObject *)PyFrame_GetCode(frame);
    Py_DECREF(site->code); /* the frame has it */
    site->lasti = PyFrame_GetLasti(frame);
}

static inline int lasti_of(FrameHead *frame, PyObject *code)
{
#if defined(Py_GIL_DISABLED) && PY_VERSION_HEX >= 0x030E0000
    (void)code; /* each thread has its own copy of the bytecode */
    return PyUnstable_InterpreterFrame_GetLasti((struct _PyInterpreterFrame *)frame);
#else
    int lasti = (int)(frame->instruction - (char *)((PyCodeObject *)code)->co_code_adaptive);
    return LIKELY(lasti >= 0) ? lasti : -1;
#endif
}

/* Whether a frame is one of Python's: each entry into the interpreter has one of its own, without code, or, in 3.12,
   with a code object that stands for that; and from 3.13 on a call of a class has one below its __init__, which has
   neither globals nor a file. */
static int is_python(FrameHead *frame)
{
    PyObject *code = FRAME_CODE(frame);
    if (!Py_IS_TYPE(code, &PyCode_Type))
        return 0;
#if PY_VERSION_HEX >= 0x030C0000 && PY_VERSION_HEX < 0x030D0000
    return PyUnicode_CompareWithASCIIString(((PyCodeObject *)code)->co_filename, "<shim>") != 0;
#else
    return PyUnicode_CompareWithASCIIString(((PyCodeObject *)code)->co_filename, "__init__") != 0;
#endif
}

static inline void find_site(PyThreadState *state, Site *site, int with)
{
    FrameHead *frame = TOP_FRAME(state);
    if (UNLIKELY(!KNOWN_FRAMES || frame == NULL)) {
        site_by_api(site);
        return;
    }
    site->code = FRAME_CODE(frame);
    if (UNLIKELY(!Py_IS_TYPE(site->code, &PyCode_Type))) {
        site_by_api(site);
        return;
    }
    if (UNLIKELY(with && frame->globals == core.threading)) { /* `with condition`: that line */
        FrameHead *back = frame->previous;
        while (back != NULL && !is_python(back))
            back = back->previous;
        if (back != NULL) {
            frame = back;
            site->code = FRAME_CODE(frame);
        }
    }
    site->lasti = lasti_of(frame, site->code);
}
