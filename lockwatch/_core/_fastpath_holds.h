/* What an agent holds, without the GIL or with it: records, their guards, and the holds made of them.

Part of _fastpath.c, where the invariants (C1 to C7) stand. */

/* ---- types ------------------------------------------------------------------------------------------------------ */

struct mutex;

/* A chain of locks whose order is known (lockorder.py). */
typedef struct {
    uint64_t chain;  /* its number, by the record's salt */
    PyObject *tally; /* bytearray of two numbers: how often it was seen here, and in which segment last; or False, for a
                        chain that was not looked at, and counts as known for a while */
} Known;

/* What one agent holds. */
typedef struct record {
    uint8_t guard;
    uint8_t foreign;     /* stands for agents that keep their own table: not listed */
    uint8_t resting;     /* how often more what is known counts as known without being counted (chains.py), or 0 */
    int count, room;     /* of list */
    int credit, stride;  /* acquires until the clock is looked at next; between the last look and then */
    long long looked;    /* at the clock, when */
    struct mutex **list; /* the locks held, in the order taken */
    long long segment;   /* which one of its agent's this is (segments.py) */
    uint64_t salt;       /* replaced to forget all chains that are known */
    Known *known;        /* those that are, in buckets, or NULL; the agent's own doing alone */
    uint32_t known_size; /* of that, a power of two */
    uint32_t passed_over; /* how often chains were had that were not looked at */
    uint64_t known_salt; /* by which it was filled */
    PyObject *agent;     /* strong; NULL before the thread's first lock and after its end (C7) */
    struct record *next_free, *next;
} Record;

typedef struct mutex {
    PyObject_HEAD
    Record *owner;
    PyObject *hold;    /* the owner's tuple, or NULL */
    PyObject *code;    /* where it was taken last: strong, and kept after the release */
    int lasti;
    int count;         /* how often the owner of a re-entrant lock took it beyond the first time */
    char with;         /* taken by `with` */
    char starving;     /* M6: set by a waiter */
    char signal;
    char recursive;
    unsigned int contended, handoffs;
    int created_lasti;
    PyObject *created; /* code object, or NULL */
    PyObject *name;
    PyObject *queue;   /* list, made for the first waiter, never replaced */
    PyObject *weakrefs;
    long long acquisitions;
    uint64_t serial;   /* the lock's number; not used again */
    uint64_t chain;    /* while held: a number for the owner's list from its beginning to here */
    long long since;   /* when it was taken, on the monotonic clock; 0 if nobody looked */
} Mutex;

typedef struct {
    PyObject_HEAD
    Record *record;
} RecordObject;

typedef struct {
    PyObject_HEAD
    Mutex *lock;
} View;

/* One interpreter, so plain statics (see the slots at the end). */
static struct {
    PyTypeObject *mutex, *plain, *recursive, *record, *view;
    PyObject *record_for, *acquire_slow, *release_slow, *wake_next, *check_timeout, *no_later_than, *learn_order;
    PyObject *waiter;  /* class in mutex.py */
    PyObject *dropped; /* told about locks that die held, or private to one function; NULL at exit */
    PyObject *threading, *machinery; /* dictionaries: globals of threading; module name -> whether machinery */
    PyObject *native;                /* code object that stands for a caller that is not Python */
    PyObject *str_became_signal, *str_refuse_release, *str_made, *str_odd_arguments, *str_holds, *str_record,
        *str_pop, *str_name, *str_module, *str_toplevel, *str_parker, *str_agent, *str_main, *str_awake, *str_locked,
        *str_release, *str_release_all, *str_take_again, *str_wake, *str_get_slowly;
} core;

static Record foreign = {.foreign = 1};
static Record transit;
static Record *records, *free_records; /* all of them; those that no agent uses */
static uint8_t records_guard;

#ifdef __GLIBC__
static __thread struct { PyThreadState *state; Record *record; } here __attribute__((tls_model("initial-exec")));
#else
static __thread struct { PyThreadState *state; Record *record; } here;
#endif

/* Where instances of a class have the slot of this name. */
static int find_slot(PyTypeObject *type, const char *name, Py_ssize_t *offset)
{
    PyObject *member = PyObject_GetAttrString((PyObject *)type, name);
    if (member == NULL)
        return -1;
    int found = Py_IS_TYPE(member, &PyMemberDescr_Type);
    if (found)
        *offset = ((PyMemberDescrObject *)member)->d_member->offset;
    else
        PyErr_Format(PyExc_TypeError, "%s is not a slot", name);
    Py_DECREF(member);
    return found ? 0 : -1;
}

/* ---- atomics: plain under the GIL ------------------------------------------------------------------------------- */

#ifdef Py_GIL_DISABLED
#define OWNER(m) __atomic_load_n(&(m)->owner, __ATOMIC_SEQ_CST)
#define SET_OWNER(m, r) ((void)__atomic_exchange_n(&(m)->owner, (r), __ATOMIC_SEQ_CST)) /* C5 */
#define FENCE() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#define LIST_SIZE(q) __atomic_load_n(&((PyVarObject *)(q))->ob_size, __ATOMIC_SEQ_CST)
#define QUEUE(m) __atomic_load_n(&(m)->queue, __ATOMIC_SEQ_CST)
#define STARVING(m) __atomic_load_n(&(m)->starving, __ATOMIC_RELAXED)

static inline void pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb" ::: "memory");
#endif
}

static void guard_wait(uint8_t *guard)
{
    struct timespec moment = {0, 1000};
    for (int turn = 0; __atomic_exchange_n(guard, 1, __ATOMIC_ACQUIRE); turn++) {
        if (turn < 100)
            pause_cpu();
        else
            nanosleep(&moment, NULL); /* its holder was preempted */
    }
}

static inline void lock_guard(uint8_t *guard)
{
    if (UNLIKELY(__atomic_exchange_n(guard, 1, __ATOMIC_ACQUIRE)))
        guard_wait(guard);
}
#define unlock_guard(guard) __atomic_store_n((guard), 0, __ATOMIC_RELEASE)

static inline int claim(Mutex *m, Record *r)
{
    Record *nobody = NULL;
    return __atomic_compare_exchange_n(&m->owner, &nobody, r, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* Take a reference to an object that may be on its way out; creation has enabled it (enable_try_incref). */
#if PY_VERSION_HEX >= 0x030E0000
#define try_incref(o) PyUnstable_TryIncRef(o)
#define enable_try_incref(o) PyUnstable_EnableTryIncRef(o)
#else
static int try_incref(PyObject *o)
{
    uint32_t local = __atomic_load_n(&o->ob_ref_local, __ATOMIC_RELAXED);
    if (__atomic_load_n(&o->ob_tid, __ATOMIC_RELAXED) == _Py_ThreadId()) {
        __atomic_store_n(&o->ob_ref_local, local + 1, __ATOMIC_RELAXED);
        return 1;
    }
    Py_ssize_t shared = __atomic_load_n(&o->ob_ref_shared, __ATOMIC_RELAXED);
    do {
        if (shared == 0 || shared == 3) /* 3: the counts are merged (_Py_REF_MERGED), and zero */
            return 0;
    } while (!__atomic_compare_exchange_n(&o->ob_ref_shared, &shared, shared + (1 << _Py_REF_SHARED_SHIFT), 1,
                                          __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
    return 1;
}
#define enable_try_incref(o) ((o)->ob_ref_shared |= 1) /* _Py_REF_MAYBE_WEAKREF; before anyone else sees it */
#endif

#else /* with the GIL */
#define OWNER(m) ((m)->owner)
#define SET_OWNER(m, r) ((m)->owner = (r))
#define FENCE() ((void)0)
#define LIST_SIZE(q) Py_SIZE(q) /* of a deque, too */
#define QUEUE(m) ((m)->queue)
#define STARVING(m) ((m)->starving)
#define lock_guard(guard) ((void)(guard))
#define unlock_guard(guard) ((void)(guard))
#define pause_cpu() ((void)0)
#define claim(m, r) ((m)->owner == NULL ? ((m)->owner = (r), 1) : 0)
#define try_incref(o) (Py_REFCNT(o) > 0 ? (Py_INCREF(o), 1) : 0) /* 0 while a subclass's slots are cleared */
#define enable_try_incref(o) ((void)(o))
#endif

static inline int queued(Mutex *m)
{
    PyObject *queue = QUEUE(m);
    return UNLIKELY(queue != NULL) && LIST_SIZE(queue) != 0;
}

/* ---- records ---------------------------------------------------------------------------------------------------- */

/* The number of a chain of locks, as lockdep's iterate_chain_key. */
static inline uint64_t mix(uint64_t chain, uint64_t serial)
{
    chain = (chain ^ serial) * 0x9E3779B97F4A7C15u;
    return chain ^ chain >> 32;
}

static inline uint64_t chain_at(Record *r, int i)
{
    return mix(i ? r->list[i - 1]->chain : 0, r->list[i]->serial);
}

#define SALT(r) __atomic_load_n(&(r)->salt, __ATOMIC_RELAXED)

static void forget_chains(Record *r)
{
    static uint64_t last;
    __atomic_store_n(&r->resting, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&r->passed_over, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&r->salt, mix(__atomic_add_fetch(&last, 1, __ATOMIC_RELAXED), 0), __ATOMIC_RELAXED);
}

#define WAYS 4 /* entries of a bucket: 64 bytes */
#define FEWEST_KNOWN 64
#define PASSED_OVER_FOR 256 /* as in chains.py */
#define DEEPEST 64 /* as in chains.py */
#define MOST_KNOWN 16384 /* four times chains.MOST_CHAINS, so that few buckets are full */

static inline Known *known_bucket(Record *r, uint64_t salted)
{
    return &r->known[(salted * WAYS) & (r->known_size - 1)];
}

/* Whether the order of the locks in a chain is known, mostly in one comparison; it is counted then. What is held under
   very many others is not looked at. */
static inline int order_is_known(Record *r, uint64_t chain)
{
    uint64_t salted = chain ^ SALT(r);
    if (UNLIKELY(r->known == NULL || r->count > DEEPEST))
        return r->count > DEEPEST;
    Known *known = known_bucket(r, salted);
    for (int i = 0; i < WAYS; i++) {
        if (known[i].chain == salted && known[i].tally != NULL) {
            if (UNLIKELY(__atomic_load_n(&r->resting, __ATOMIC_RELAXED))) {
                if (__atomic_sub_fetch(&r->resting, 1, __ATOMIC_RELAXED))
                    return 1;
                forget_chains(r); /* ask again: there may be looks now */
                return 0;
            }
            if (UNLIKELY(known[i].tally == Py_False)) {
                if (++r->passed_over < PASSED_OVER_FOR + 4 * r->known_size)
                    return 1;
                forget_chains(r);
                return 0;
            }
            long long *tally = (long long *)(void *)PyByteArray_AS_STRING(known[i].tally);
            tally[0]++;
            tally[1] = r->segment;
            return 1;
        }
    }
    return 0;
}

static void drop_known(Record *r)
{
    Known *known = r->known;
    uint32_t size = r->known_size;
    r->known = NULL;
    r->known_size = 0;
    for (uint32_t i = 0; i < size; i++)
        Py_XDECREF(known[i].tally);
    PyMem_RawFree(known);
}

static int grow_known(Record *r)
{
    Known *old = r->known;
    uint32_t before = r->known_size, size = before ? 4 * before : FEWEST_KNOWN;
    Known *known = size > MOST_KNOWN ? NULL : PyMem_RawCalloc(size, sizeof *known);
    if (known == NULL)
        return 0;
    r->known = known;
    r->known_size = size;
    for (uint32_t i = 0; i < before; i++) {
        if (old[i].tally != NULL) { /* an old bucket goes to four new ones, so none of them overflows */
            Known *bucket = known_bucket(r, old[i].chain);
            while (bucket->tally != NULL)
                bucket++;
            *bucket = old[i];
        }
    }
    PyMem_RawFree(old);
    return 1;
}

/* Note a chain that was looked at while the salt was `salt`. */
static void note_known(Record *r, uint64_t chain, uint64_t salt, PyObject *tally)
{
    if (salt != SALT(r))
        return; /* forgotten already */
    if (r->known_salt != salt) {
        drop_known(r);
        r->known_salt = salt;
    }
    uint64_t salted = chain ^ salt;
    PyObject *last;
    Known *known = r->known == NULL ? NULL : known_bucket(r, salted);
    for (int i = 0; known != NULL && i < WAYS; i++) {
        if (known[i].chain == salted && known[i].tally != NULL) {
            Py_SETREF(known[i].tally, Py_NewRef(tally));
            return;
        }
    }
    do {
        known = r->known == NULL ? NULL : known_bucket(r, salted);
        last = known == NULL ? NULL : known[WAYS - 1].tally;
    } while ((known == NULL || last != NULL) && grow_known(r));
    if (known == NULL)
        return; /* no memory */
    memmove(&known[1], &known[0], (WAYS - 1) * sizeof *known); /* the newest stands first */
    known->chain = salted;
    known->tally = Py_NewRef(tally);
    Py_XDECREF(last);
}

/* Put the lock into the list; guard held. Without memory it is owned all the same, and only missing in reports. */
static inline void list_push(Record *r, Mutex *m)
{
    if (UNLIKELY(r->count == r->room)) {
        if (r->foreign)
            return;
        int room = r->room ? 2 * r->room : 8;
        Mutex **list = PyMem_RawMalloc((size_t)room * sizeof *list), **old = r->list;
        if (list == NULL)
            return;
        if (r->count)
            memcpy(list, old, (size_t)r->count * sizeof *list);
        r->list = list; /* in this order: a fork in the middle leaves a list that is whole */
        r->room = room;
        PyMem_RawFree(old);
    }
    r->list[r->count] = m;
    m->chain = chain_at(r, r->count);
    r->count++;
}

/* Take the lock out of the list; guard held. Most are released in the opposite order, so it is the last. */
static inline void list_remove(Record *r, Mutex *m)
{
    int i = r->count - 1;
    if (LIKELY(i >= 0 && r->list[i] == m)) {
        r->count = i;
        return;
    }
    while (i >= 0 && r->list[i] != m)
        i--;
    if (i >= 0) {
        memmove(&r->list[i], &r->list[i + 1], (size_t)(r->count - i - 1) * sizeof *r->list);
        r->count--;
        for (; i < r->count; i++)
            r->list[i]->chain = chain_at(r, i);
    }
}

static Record *new_record(void)
{
    lock_guard(&records_guard);
    Record *r = free_records;
    if (r != NULL)
        free_records = r->next_free;
    else if ((r = PyMem_RawCalloc(1, sizeof *r)) != NULL) {
        r->next = records;
        records = r;
    }
    unlock_guard(&records_guard);
    return r;
}

/* The record of an agent: a new reference to its RecordObject in *keeper, or NULL there for one with its own table. */
static Record *record_of(PyObject *agent, PyObject **keeper)
{
    *keeper = NULL;
    PyObject *holds = PyObject_GetAttr(agent, core.str_holds);
    PyObject *found = holds == NULL ? NULL : PyObject_GetAttr(holds, core.str_record);
    Py_XDECREF(holds);
    if (found == NULL || !Py_IS_TYPE(found, core.record)) {
        PyErr_Clear();
        Py_XDECREF(found);
        return &foreign;
    }
    *keeper = found;
    return ((RecordObject *)found)->record;
}

/* The calling thread's record, made with its agent by agents.py the first time. */
static Record *find_me(PyThreadState *state)
{
    PyObject *found = PyObject_CallNoArgs(core.record_for);
    if (found == NULL)
        return NULL;
    PyObject *agent = PyTuple_GET_ITEM(found, 0); /* (agent, RecordObject) */
    Record *r = ((RecordObject *)PyTuple_GET_ITEM(found, 1))->record;
    lock_guard(&r->guard);
    if (r->agent == NULL) {
        r->agent = Py_NewRef(agent);
        forget_chains(r);
    }
    unlock_guard(&r->guard);
    here.state = state;
    here.record = r;
    Py_DECREF(found);
    return r;
}

static inline Record *find_record(PyThreadState *state)
{
    return LIKELY(here.state == state) ? here.record : find_me(state);
}

/* ---- holds ------------------------------------------------------------------------------------------------------ */

#define COLD_NS 4096 /* a hundred times what the clock costs */
#define LONGEST_STRIDE 64

static long long read_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now); /* as time.monotonic_ns() */
    return (long long)now.tv_sec * 1000000000 + now.tv_nsec;
}

static PyObject *now_ns(void) { return PyLong_FromLongLong(read_clock()); }

/* The time, for one acquire, and when to look next: at each while they are rare, else at one of many. */
static Py_NO_INLINE long long look_at_clock(Record *r)
{
    long long now = read_clock();
    if (now - r->looked >= (long long)r->stride * COLD_NS)
        r->stride = 1;
    else if (r->stride < LONGEST_STRIDE)
        r->stride *= 2;
    r->looked = now;
    r->credit = r->stride - 1;
    return now;
}

/* The owner's hold as a new reference; NULL without an exception if the lock is free. */
static PyObject *current_hold(Mutex *m)
{
    PyObject *made = NULL, *hold = NULL, *spare = NULL;
    FENCE(); /* C5 */
    for (;;) {
        Record *r = OWNER(m);
        if (r == NULL)
            break;
        if (r == &transit) {
            pause_cpu();
            continue;
        }
        lock_guard(&r->guard);
        if (OWNER(m) == r) {
            hold = Py_XNewRef(m->hold);
            if (hold == NULL && made != NULL && r->agent != NULL) {
                PyObject *lasti = PyLong_FromLong(m->lasti);
                if (lasti != NULL) {
                    PyObject *since = m->since ? PyLong_FromLongLong(m->since) : NULL;
                    if (since != NULL) {
                        spare = PyTuple_GET_ITEM(made, 4);
                        PyTuple_SET_ITEM(made, 4, since);
                    } else
                        PyErr_Clear();
                    PyTuple_SET_ITEM(made, 0, Py_NewRef(r->agent));
                    PyTuple_SET_ITEM(made, 2, Py_NewRef(m->code));
                    PyTuple_SET_ITEM(made, 3, lasti);
                    PyTuple_SET_ITEM(made, 5, Py_NewRef(m->with ? Py_True : Py_False));
                    m->hold = made;
                    hold = Py_NewRef(made);
                    made = NULL;
                }
            }
        }
        int gone = OWNER(m) != r;
        unlock_guard(&r->guard);
        if (hold != NULL)
            break;
        if (gone)
            continue;
        if (made != NULL)
            break; /* its agent has gone with the interpreter, or no memory for an int */
        /* C1: containers are made outside, then the state is looked at anew */
        PyObject *weak = PyWeakref_NewRef((PyObject *)m, NULL);
        PyObject *now = weak == NULL ? NULL : now_ns();
        PyObject *since = now == NULL ? NULL : PyObject_CallOneArg(core.no_later_than, now);
        Py_XDECREF(now);
        made = since == NULL ? NULL : PyTuple_New(6);
        if (made == NULL) {
            Py_XDECREF(weak);
            Py_XDECREF(since);
            return NULL;
        }
        PyTuple_SET_ITEM(made, 1, weak);
        PyTuple_SET_ITEM(made, 4, since);
    }
    Py_XDECREF(made);
    Py_XDECREF(spare);
    return hold;
}

/* All locks of a record, as new references in an array to be freed; -1 without memory. */
static int held_locks(Record *r, Mutex ***found)
{
    int count = 0, room = 0;
    *found = NULL;
    for (;;) {
        lock_guard(&r->guard);
        int needed = r->count;
        if (needed <= room) {
            for (int i = 0; i < needed; i++) {
                if (try_incref((PyObject *)r->list[i])) /* C6 */
                    (*found)[count++] = r->list[i];
            }
            unlock_guard(&r->guard);
            return count;
        }
        unlock_guard(&r->guard);
        PyMem_RawFree(*found);
        room = needed + 4;
        *found = PyMem_RawMalloc((size_t)room * sizeof **found);
        if (*found == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
}

/* The holds of a record, in the order taken, as a list of (key, hold); all of them are materialised. */
static PyObject *held(Record *r)
{
    Mutex **locks;
    int count = held_locks(r, &locks);
    PyObject *result = count < 0 ? NULL : PyList_New(0);
    for (int i = 0; i < count; i++) {
        PyObject *hold = result == NULL ? NULL : current_hold(locks[i]);
        if (hold != NULL) {
            if (r->agent == NULL || PyTuple_GET_ITEM(hold, 0) == r->agent) {
                PyObject *entry = Py_BuildValue("KO", (unsigned long long)locks[i]->serial, hold);
                if (entry == NULL || PyList_Append(result, entry) < 0)
                    Py_CLEAR(result);
                Py_XDECREF(entry);
            }
            Py_DECREF(hold);
        } else if (PyErr_Occurred())
            Py_CLEAR(result);
        Py_DECREF(locks[i]);
    }
    PyMem_RawFree(locks);
    return result;
}

/* Take the lock from whoever has it, or from nobody: it is in transit then, and ours to give. Returns the old hold. */
static PyObject *detach(Mutex *m)
{
    for (;;) {
        Record *r = OWNER(m);
        if (r == NULL) {
            if (claim(m, &transit))
                return NULL;
        } else if (r != &transit) {
            lock_guard(&r->guard);
            if (OWNER(m) == r) {
                PyObject *hold = m->hold;
                m->hold = NULL;
                list_remove(r, m);
                SET_OWNER(m, &transit);
                unlock_guard(&r->guard);
                return hold;
            }
            unlock_guard(&r->guard);
        }
        pause_cpu();
    }
}

/* Give the lock, which is in transit, to the agent of a hold. */
static void attach(Mutex *m, Record *r, PyObject *hold)
{
    Py_INCREF(hold);
    lock_guard(&r->guard);
    m->hold = hold;
    list_push(r, m);
    SET_OWNER(m, r);
    unlock_guard(&r->guard);
}
