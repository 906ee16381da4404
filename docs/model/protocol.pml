/*
 * The write-behind protocol of one partition: 2 documents, 2 writers, 2 flushers, a reader, and what can go wrong.
 *
 * Each inline is one atomic step, named as in docs/protocol.md: a Lua script in Redis, or one operation in MongoDB.
 * Between any two of them every other process may do anything. README.md says what is left out, and why.
 *
 * How much of what may go wrong is in one run is set by macros, and check.py has the runs. Without any of them nothing
 * goes wrong and there is no sweep, so that a wake-up that is lost shows as a deadlock. The variants of check.py break
 * the protocol on purpose, each by one macro of its own.
 */

#define DOCUMENTS 2
#define FLUSHERS 2
#ifndef WRITES
#define WRITES 2        /* by the first writer */
#endif
#ifndef MORE_WRITES
#define MORE_WRITES 2   /* by the second */
#endif
#ifndef READS
#define READS 0
#endif
#ifndef FAULTS
#define FAULTS 0        /* in one run, of any kind: each costs one, so every combination of so many is tried */
#endif
#define MOST_TICKETS 3
/* By how much the clock of a partition leaps when a replica has become the primary: more than all that it may have missed.
   Its machine's clock is behind, so that without a leap it issues numbers that the former primary has issued, too. */
#ifndef LEAP
#define LEAP 8
#endif

/* Kinds of entry. */
#define NOTHING 0       /* there is no entry */
#define DOCUMENT 1
#define DELETED 2
#define ABSENT 3        /* known not to be in MongoDB */

/* What became of a write to MongoDB. */
#define NOT_TRIED 0
#define PERSISTED 1
#define REFUSED 2
#define SUPERSEDED 3    /* and more: by this version */

/* What is there before the first step. FOREIGN: MongoDB has document 0 with a version that this Redis has not issued,
   and is not going to, from a clock that was ahead or from other hands. LOST: Redis has lost the last write to
   document 0, which MongoDB has, as in a failover; the one before it is pending. */
#ifdef FOREIGN
#define ALIKE false
#define IN_MONGO {50, 0}
#define IN_KINDS {1, 0}
#define IN_REDIS {0, 0}
#else
#ifdef LOST
#define ALIKE false
#define IN_MONGO {2, 0}
#define IN_KINDS {1, 0}
#define IN_REDIS {1, 0}
#else
#define ALIKE true      /* the documents: each run has its like with them exchanged */
#define IN_MONGO {0, 0}
#define IN_KINDS {0, 0}
#define IN_REDIS {0, 0}
#endif
#endif

/* Whether only document 0 is written and read: far fewer states, where it matters in which order its own steps fall. */
#ifndef ALONE
#define ALONE false
#endif

/* Redis. `scheduled` is 0, the number of a flusher at work, or a ticket. */
#define FIRST_TICKET 3
byte version[DOCUMENTS] = IN_REDIS;
byte kind[DOCUMENTS] = IN_REDIS;
bool pending[DOCUMENTS] = IN_REDIS;
byte dead[DOCUMENTS], deleted[DOCUMENTS];
byte kept[DOCUMENTS];   /* the document of which only a dead letter is left, by its version */
bool has_ttl[DOCUMENTS];
byte load[DOCUMENTS];   /* who has the right to load the document */
#define NOBODY 0
#define READER 1
#define RECOMMITTER 2
#ifdef LOST
byte clock = 2;         /* that of the machine goes on */
#else
byte clock;
#endif
byte lease, scheduled;

/* The broker, and MongoDB: the version of each document, 0 where there is none. */
chan broker = [MOST_TICKETS] of { byte };
byte mongo[DOCUMENTS] = IN_MONGO;

/* What a flusher holds in its hands: the version of each document that it has read, 0 for none. */
typedef Hands { byte version[DOCUMENTS]; byte kind[DOCUMENTS]; byte result[DOCUMENTS] };
Hands hands[FLUSHERS + 1];
bool at_work[FLUSHERS + 1];

/* What only the model knows: the last acknowledged write, what was given up for a newer version in MongoDB, the version
   that MongoDB refuses, and who is done. */
byte last[DOCUMENTS] = IN_MONGO;
byte last_kind[DOCUMENTS] = IN_KINDS;
byte given_up[DOCUMENTS];
byte poison;
byte writers_left = 2, readers_left = 1;

byte faults = FAULTS;

#ifdef FAILOVER
/* The replica has what was replicated so far, until it is cut off; then it may take the primary's place at any moment. */
typedef Entries { byte version[DOCUMENTS]; byte kind[DOCUMENTS]; byte dead[DOCUMENTS]; byte deleted[DOCUMENTS];
                  byte kept[DOCUMENTS]; bool pending[DOCUMENTS]; bool has_ttl[DOCUMENTS]; byte clock; byte given_up[DOCUMENTS] };
Entries replica;
byte lapse_from, lapse_to;      /* what was issued after the one, up to the other, the new primary has not seen */
byte failover_state;            /* 0: it follows, 1: it is cut off, 2: it is the primary */
bool lost[DOCUMENTS];           /* the last acknowledged write is one that the replica has missed, so it may be gone */
#ifdef RECOMMIT
byte gone[DOCUMENTS], gone_kind[DOCUMENTS];     /* what was lost, as the process remembers that has acknowledged it */
byte loads[DOCUMENTS];          /* 1: a reader loads it, 2: and it was committed again since the reader began */
#endif
#define LOST_IN_FAILOVER(d) lost[d]
#ifdef RECOMMIT
#define IS_OVER 3               /* what was lost was committed again */
#define EXCUSED(d) false        /* so nothing is lost in the end */
#else
#define IS_OVER 2
#define EXCUSED(d) lost[d]
#endif
#else
#define LOST_IN_FAILOVER(d) false
#define EXCUSED(d) false
#endif

/* ---- Redis: one Lua script each ---------------------------------------------------------------------------- */

/* Issue a ticket: put a flush task with a number that no other has into the broker. */
inline issue() {
    if
    :: !(broker??[3]) -> scheduled = 3
    :: else ->
        if
        :: !(broker??[4]) -> scheduled = 4
        :: else -> scheduled = 5
        fi
    fi;
    assert(nfull(broker));
    broker!scheduled
}

#define MAX(a, b) ((a) > (b) -> (a) : (b))

inline commit(d, what) {
    d_step {
        load[d] = NOBODY;                                /* what is being loaded is older than this write */
        if
        :: !pending[d] -> dead[d] = 0
        :: else
        fi;
#ifdef COMMIT_CLEARS_KEPT
        kept[d] = 0;
#endif
        clock++;
        pending[d] = true;
        /* Above all that Redis shows of it, whoever has issued that. The clock does not follow. */
#ifndef COMMIT_BESIDE_ENTRY
        version[d] = MAX(clock, version[d] + 1);
#else
        version[d] = clock;
#endif
#ifndef COMMIT_BESIDE_DELETION
        version[d] = MAX(version[d], deleted[d] + 1);
#endif
        kind[d] = what;
#ifdef TTL_ON_PENDING
        has_ttl[d] = true;
#else
        has_ttl[d] = false;
#endif
        last[d] = version[d];
        last_kind[d] = what;
#ifdef FAILOVER
        lost[d] = false;
#endif
        if
        :: scheduled == 0 -> issue()
        :: else                                         /* one is on its way, or at work and looks again */
        fi
    }
}

/* Let go of the lease; where anything is pending, issue a ticket. Part of a step. */
inline give_back() {
    lease = 0;
    if
    :: pending[0] || pending[1] -> issue()
    :: else -> scheduled = 0
    fi
}

/* `busy` when another flusher owns the partition, or a later task is on its way. Where nothing is due it is let go of in the
   same step: `released`. */
inline claim(f, ticket, busy, released) {
    d_step {
        busy = (lease != 0 && lease != f) || (lease != f && scheduled >= FIRST_TICKET && scheduled != ticket);
        if
        :: !busy && (pending[0] || pending[1]) -> lease = f; scheduled = f
#ifdef RELEASE_IN_TWO_STEPS
        :: !busy && !pending[0] && !pending[1] -> lease = f; scheduled = f; released = true
#else
        :: !busy && !pending[0] && !pending[1] -> give_back(); released = true
#endif
        :: busy
        fi
    }
}

/* MGET of what is due. All that is pending is: the flush delay only makes things happen later. */
inline read_entries(f) {
    d_step {
        for (i : 0 .. DOCUMENTS - 1) {
            hands[f].result[i] = NOT_TRIED;
            if
            :: pending[i] ->
                assert(kind[i] != NOTHING);             /* what is pending is never evicted */
                hands[f].version[i] = version[i];
                hands[f].kind[i] = kind[i]
            :: else -> hands[f].version[i] = 0; hands[f].kind[i] = NOTHING
            fi
        }
        i = 0
    }
}

/* Decide about what is pending, where MongoDB has a greater version. */
inline outdo(d, theirs) {
    if
#ifdef OUTDO_ALWAYS
    :: true ->
#else
#ifdef OUTDO_NEVER
    :: false ->
#else
    :: theirs > clock ->                                /* not issued here: it was there before */
#endif
#endif
        if
        :: last[d] == version[d] -> last[d] = theirs + 1
        :: else
        fi;
        version[d] = theirs + 1
    :: else ->                                          /* Redis has lost that write. Ours is kept beside a letter */
        assert(last[d] != version[d] || LOST_IN_FAILOVER(d));
        if
#if defined(FAILOVER) && !defined(LETTER_IN_LAPSE)
        :: lapse_from < theirs && theirs <= lapse_to -> /* the former primary had both: theirs was written over ours */
            assert(last[d] != version[d])
#endif
        :: else ->
            kept[d] = version[d];
            given_up[d] = version[d]
        fi;
        pending[d] = false;
        version[d] = 0;
        kind[d] = NOTHING;
        load[d] = NOBODY
    fi
}

inline settle_or_bury(f) {
    d_step {
        for (i : 0 .. DOCUMENTS - 1) {
            if
            :: hands[f].result[i] == PERSISTED ->
                if
#ifdef SETTLE_BY_MEMBER
                :: true ->
#else
                :: version[i] == hands[f].version[i] && kind[i] != NOTHING ->
#endif
                    if
                    :: !pending[i] && dead[i] != 0 -> dead[i] = 0
                    :: else
                    fi;
                    pending[i] = false;
                    has_ttl[i] = true;
                    if
                    :: kind[i] == DELETED -> deleted[i] = hands[f].version[i]
#ifndef SETTLE_BESIDE_DELETION
                    :: kind[i] != DELETED && version[i] > clock -> deleted[i] = 0   /* no number is issued twice */
#endif
                    :: else
                    fi
                :: else
                fi
            :: hands[f].result[i] == REFUSED ->
                if
#ifdef BURY_WITHOUT_VERSION
                :: pending[i] ->
#else
                :: pending[i] && version[i] == hands[f].version[i] ->
#endif
                    pending[i] = false;
                    dead[i] = hands[f].version[i]
                :: else
                fi
            :: hands[f].result[i] >= SUPERSEDED ->
                if
                :: pending[i] && version[i] == hands[f].version[i] -> outdo(i, hands[f].result[i] - SUPERSEDED)
                :: else
#if !defined(FOREIGN) && !defined(FAILOVER)
                    -> assert(kind[i] == NOTHING || version[i] > hands[f].version[i])   /* a newer one, or it is gone */
#endif
                fi
            :: else
            fi;
            hands[f].version[i] = 0;
            hands[f].kind[i] = NOTHING;
            hands[f].result[i] = NOT_TRIED
        }
        i = 0
    }
}

inline release(f) {
    d_step {
        if
        :: lease == 0 || lease == f ->
#ifdef RELEASE_WITHOUT_LOOK
            lease = 0;
            scheduled = 0
#else
            give_back()
#endif
        :: else
        fi
    }
}

#ifdef RECOMMIT
/* Commit again what was lost, unless the same or a newer one is there. Where there is no entry MongoDB is asked first,
   and a write that comes in between takes the right to load away. */
#ifdef RECOMMIT_WITHOUT_RIGHT
#define MAY_HAVE_CHANGED(d) (!asked)
#else
#define MAY_HAVE_CHANGED(d) (load[d] != RECOMMITTER)
#endif

inline recommit(d, unknown) {
    d_step {
        unknown = false;
        if
#ifndef RECOMMIT_OVER_NEWER
        :: version[d] >= gone[d] || kept[d] == gone[d]
#else
        :: version[d] == gone[d] || kept[d] == gone[d]
#endif
#ifndef RECOMMIT_OVER_DELETION
        :: version[d] < gone[d] && kept[d] != gone[d] && deleted[d] >= gone[d]
#endif
#ifndef RECOMMIT_UNSEEN
        :: version[d] < gone[d] && kept[d] != gone[d] && deleted[d] < gone[d] && kind[d] == NOTHING &&
            MAY_HAVE_CHANGED(d) ->
            unknown = true;
            load[d] = RECOMMITTER
#endif
        :: else ->
            load[d] = NOBODY;
            if
            :: !pending[d] -> dead[d] = 0
            :: else
            fi;
            pending[d] = true;
            has_ttl[d] = false;
            version[d] = gone[d];
            kind[d] = gone_kind[d];
            if
            :: loads[d] == 1 -> loads[d] = 2
            :: else
            fi;
            if
            :: last[d] == gone[d] -> lost[d] = false        /* from here on it must not be lost */
            :: else
            fi;
            if
            :: scheduled == 0 -> issue()
            :: else
            fi
        fi
    }
}
#endif

/* ---- MongoDB: one operation of a bulk write ----------------------------------------------------------------- */

inline write(f, d) {
    d_step {
        if
        :: hands[f].version[d] == 0
        :: hands[f].version[d] != 0 && hands[f].version[d] == poison -> hands[f].result[d] = REFUSED
        :: hands[f].version[d] != 0 && hands[f].version[d] != poison ->
            if
#ifdef NO_VERSION_GUARD
            :: true ->
#else
            :: mongo[d] < hands[f].version[d] ->
#endif
                assert(mongo[d] <= hands[f].version[d]);        /* never from a newer version to an older one */
                mongo[d] = (hands[f].kind[d] == DOCUMENT -> hands[f].version[d] : 0);
                hands[f].result[d] = PERSISTED
#ifndef NO_VERSION_GUARD
            :: mongo[d] == hands[f].version[d] -> hands[f].result[d] = PERSISTED
            :: mongo[d] > hands[f].version[d] -> hands[f].result[d] = SUPERSEDED + mongo[d]
#endif
            fi
        fi
    }
}

#define HOLDS(f, d) (hands[f].version[d] != 0 && hands[f].version[d] <= deleted[d])
#if defined(RECOMMIT) && !defined(RECOMMIT_LATE)
/* What was lost is committed again for as long as deletions since are remembered, or not at all. And a deletion that is
   committed again is remembered for longer than a load takes that began before, as any that came since then. */
#define AUDITABLE(d) (!HOLDS(1, d) && !HOLDS(2, d) && gone[d] == 0 && loads[d] != 2)
#else
#define AUDITABLE(d) (!HOLDS(1, d) && !HOLDS(2, d))
#endif

inline audit(d) {
#ifndef NO_AUDIT
    if
    :: mongo[d] < deleted[d] -> mongo[d] = 0
    :: else
    fi;
    if
    :: !pending[d] && dead[d] == 0 -> kind[d] = NOTHING; version[d] = 0; has_ttl[d] = false; load[d] = NOBODY
    :: else
    fi;
#endif
    deleted[d] = 0
}

/* ---- Processes ---------------------------------------------------------------------------------------------- */

active [2] proctype writer() {
    byte n = (_pid == 0 -> WRITES : MORE_WRITES);
    byte d, what;
    do
    :: n > 0 ->
        atomic {
            if
            :: d = 0
            :: !ALONE && (!ALIKE || last[0]) -> d = 1   /* the first write is to document 0 where they are alike */
            fi;
            if
            :: what = DOCUMENT
            :: what = DELETED
            fi;
            commit(d, what);
            if
            :: faults > 0 && poison == 0 -> poison = last[d]; faults--
            :: true
            fi;
            n--; d = 0; what = 0
        }
    :: n == 0 -> break
    od;
    writers_left--
}

#define CRASH_OR_GO_ON  if :: faults > 0 -> faults--; goto crashed :: true fi

active [FLUSHERS] proctype flusher() {
    byte f = _pid - 1;          /* 1 and 2: the writers are 0 and 1 */
    byte ticket, i;
    bool busy, released;

idle:
end:
    atomic { broker?ticket -> at_work[f] = true; CRASH_OR_GO_ON };
    do
    :: claim(f, ticket, busy, released);
        if
        :: busy -> goto done
#ifdef RELEASE_IN_TWO_STEPS
        :: released -> atomic { lease == f -> lease = 0; scheduled = 0; goto done }
#else
        :: released -> goto done
#endif
        :: else
        fi;
        atomic { read_entries(f); CRASH_OR_GO_ON };
        atomic { write(f, 0); CRASH_OR_GO_ON };
        atomic { write(f, 1); CRASH_OR_GO_ON };
        atomic { settle_or_bury(f); CRASH_OR_GO_ON };
        if
        :: skip                                         /* it looks for more */
        :: break                                        /* it is to stop, or has had its time */
        fi
    od;
    release(f);
    goto done;

crashed:
    skip;
    d_step {
        for (i : 0 .. DOCUMENTS - 1) {
            hands[f].version[i] = 0;
            hands[f].kind[i] = NOTHING;
            hands[f].result[i] = NOT_TRIED
        }
    }
done:
    skip;
    d_step { at_work[f] = false; ticket = 0; busy = false; released = false; i = 0 }
    goto idle
}

/* What a read may show: the last acknowledged write and nothing else. */
#define FRESH(d, v, k) (LOST_IN_FAILOVER(d) || (k == DOCUMENT && last_kind[d] == DOCUMENT && v == last[d]) \
                     || (k == DELETED && last_kind[d] == DELETED && v == last[d]) \
                     || (k == ABSENT && last_kind[d] != DOCUMENT))

/* What a read may answer whose right to fill is gone: what was acknowledged last when it began, or something later.
   What that was is not known of a document that was lost then, and is committed again since. */
#define UNKNOWN 255
#define AS_OF(d, v, k) (LOST_IN_FAILOVER(d) || last[d] != then || (k == DOCUMENT && then_kind == DOCUMENT && v == then) \
                     || (k != DOCUMENT && then_kind != DOCUMENT))

active proctype reader() {
    byte n, d, found, then, then_kind, known;
    bool loading;
    do
    :: n < READS ->
        atomic {                                        /* lease_get */
            if
            :: d = 0
            :: !ALONE -> d = 1
            fi;
            if
            :: kind[d] != NOTHING -> assert(FRESH(d, version[d], kind[d]))
            :: kind[d] == NOTHING && load[d] != RECOMMITTER ->      /* else it waits */
                load[d] = READER; loading = true;
                then = (LOST_IN_FAILOVER(d) -> UNKNOWN : last[d]); then_kind = last_kind[d];
#ifdef RECOMMIT
                loads[d] = 1;
#endif
                known = deleted[d]                      /* the audit may forget it before the fill */
            fi
        }
        if
        :: loading ->
            found = mongo[d];
            if
            :: skip
            :: load[d] = NOBODY                          /* Redis is full, and evicts the right */
            fi;
            d_step {                                    /* fill */
                if
#ifndef ANSWER_WITHOUT_MEMORY
                :: deleted[d] == 0
#endif
                :: else -> known = deleted[d]
                fi;
                if
#ifdef FILL_WITHOUT_TOKEN
                :: kind[d] == NOTHING ->
#else
                :: kind[d] == NOTHING && load[d] == READER ->
#endif
                    if
#ifndef FILL_WITHOUT_DELETIONS
                    :: found && found < known -> version[d] = known; kind[d] = DELETED
                    :: !found || found >= known ->
#else
                    :: true ->
#endif
                        version[d] = found;
                        kind[d] = (found -> DOCUMENT : ABSENT)
                    fi;
                    has_ttl[d] = true;
                    assert(FRESH(d, version[d], kind[d]))
                :: kind[d] == NOTHING && load[d] != READER && !pending[d] ->     /* answered, and not stored */
                    if
#ifndef ANSWER_WITHOUT_DELETIONS
                    :: found && found < known -> assert(AS_OF(d, known, DELETED))
                    :: !found || found >= known ->
#else
                    :: true ->
#endif
                        assert(AS_OF(d, found, (found -> DOCUMENT : ABSENT)))
                    fi
                :: else
                fi;
                if
                :: load[d] == READER -> load[d] = NOBODY
                :: else
                fi
            }
        :: else
        fi;
        d_step {
#ifdef RECOMMIT
            loads[d] = 0;
#endif
            n++; d = 0; found = 0; loading = false; then = 0; then_kind = 0; known = 0 }
    :: n == READS -> break
    od;
    readers_left--
}

#ifdef FAILOVER
inline copy_to_replica() {
    for (i : 0 .. DOCUMENTS - 1) {
        replica.version[i] = version[i];
        replica.kind[i] = kind[i];
        replica.dead[i] = dead[i];
        replica.deleted[i] = deleted[i];
        replica.kept[i] = kept[i];
        replica.pending[i] = pending[i];
        replica.has_ttl[i] = has_ttl[i];
        replica.given_up[i] = given_up[i]
    }
    i = 0;
    replica.clock = clock
}

/* The replica is the primary, and whoever connects to it first lets its clock leap. Leases, tickets and rights to load
   are gone: they may be, as each of them ends some time. What it has missed may be lost, unless somebody brings it to
   MongoDB who has it in hands; nobody can say what is right of such a document until it is written again. */
inline fail_over() {
    for (i : 0 .. DOCUMENTS - 1) {
        lost[i] = last[i] != replica.version[i] && last[i] > replica.clock;
#ifdef RECOMMIT
        gone[i] = (lost[i] -> last[i] : 0);
        gone_kind[i] = (lost[i] -> last_kind[i] : 0);
#endif
        version[i] = replica.version[i];
        kind[i] = replica.kind[i];
        dead[i] = replica.dead[i];
        deleted[i] = replica.deleted[i];
        kept[i] = replica.kept[i];
        pending[i] = replica.pending[i];
        has_ttl[i] = replica.has_ttl[i];
        given_up[i] = replica.given_up[i];
        load[i] = NOBODY;
        replica.version[i] = 0; replica.kind[i] = 0; replica.dead[i] = 0; replica.deleted[i] = 0;
        replica.kept[i] = 0; replica.pending[i] = 0; replica.has_ttl[i] = 0; replica.given_up[i] = 0
    }
    i = 0;
    clock = replica.clock + LEAP;
    lapse_from = replica.clock;
    lapse_to = clock;
    replica.clock = 0;
    lease = 0;
    scheduled = 0
}

active proctype failover() {
    byte i;
#ifdef RECOMMIT
    byte found;
    bool unknown;
#ifdef RECOMMIT_WITHOUT_RIGHT
    bool asked;
#endif
#endif
    d_step { copy_to_replica(); failover_state = 1 };
    d_step { fail_over(); failover_state = 2 };
#ifdef RECOMMIT
    do
    :: i < DOCUMENTS && gone[i] != 0 ->
        recommit(i, unknown);
        do
        :: unknown ->
            found = mongo[i];
#ifdef RECOMMIT_WITHOUT_RIGHT
            asked = true;
#endif
            if
            :: found < gone[i] -> recommit(i, unknown)
            :: else -> unknown = false
            fi
        :: else -> break
        od;
        if
        :: load[i] == RECOMMITTER -> load[i] = NOBODY
        :: else
        fi;
        d_step {
#ifdef RECOMMIT_WITHOUT_RIGHT
            asked = false;
#endif
            gone[i] = 0; gone_kind[i] = 0; found = 0; unknown = false; i++ }
    :: i < DOCUMENTS && gone[i] == 0 -> i++
    :: i == DOCUMENTS -> break
    od;
    failover_state = 3
#endif
}
#endif

/* Time passes: keys run out, entries are evicted, and the periodic tasks come round. */
active proctype time() {
    byte d;
end:
    do
    /* A lease runs out: at last when its owner has crashed, and too early for one that is merely slow. The note that
       its owner is at work has the same life. */
    :: d_step { lease != 0 && !at_work[lease] -> if :: scheduled == lease -> scheduled = 0 :: else fi; lease = 0 }
    :: d_step { lease != 0 && at_work[lease] && faults > 0 ->
           faults--; if :: scheduled == lease -> scheduled = 0 :: else fi; lease = 0 }
#if FAULTS > 0 || defined(FAILOVER)
    /* A ticket whose task is lost runs out, and one whose task waits for long does so too early. */
    :: d_step { scheduled >= FIRST_TICKET && !(broker??[eval(scheduled)]) && !at_work[1] && !at_work[2] ->
           scheduled = 0 }
    :: d_step { scheduled >= FIRST_TICKET && faults > 0 -> faults--; scheduled = 0 }

    /* sweep */
    :: d_step { (pending[0] || pending[1]) && lease == 0 && scheduled == 0 && nfull(broker) -> issue() }
#endif
    /* Eviction takes what has a TTL. */
    :: atomic { faults > 0 ->
           if
           :: d = 0
           :: !ALONE -> d = 1
           fi;
           if
           :: kind[d] != NOTHING && has_ttl[d] ->
               faults--; kind[d] = NOTHING; version[d] = 0; has_ttl[d] = false
           :: else
           fi;
           d = 0 }

    /* The audit of a deletion, after the grace: when no flusher can hold it, or what it deletes, in its hands. */
    :: d_step { deleted[0] != 0 && AUDITABLE(0) -> audit(0) }
    :: d_step { deleted[1] != 0 && AUDITABLE(1) -> audit(1) }
    od
}

#define CONVERGED(d) (dead[d] == last[d] || (last_kind[d] == DOCUMENT && mongo[d] == last[d]) \
                      || (last_kind[d] == DELETED && mongo[d] == 0))

/* Once everybody is done, MongoDB has the last acknowledged write of each document, or it stands in the dead letters.
   That this process gets to its end in every run means that nothing is ever left behind. */
active proctype outcome() {
#ifdef FAILOVER
    failover_state >= IS_OVER;
#endif
    (writers_left == 0 && readers_left == 0 && !pending[0] && !pending[1] && !at_work[1] && !at_work[2] &&
        len(broker) == 0 && deleted[0] == 0 && deleted[1] == 0);
    assert(CONVERGED(0) || EXCUSED(0));
    assert(CONVERGED(1) || EXCUSED(1));
    assert(kept[0] == given_up[0] && kept[1] == given_up[1]);
#if defined(FAILOVER)
    assert(given_up[0] == 0 && given_up[1] == 0)        /* a failover leaves no letter behind */
#endif
}
