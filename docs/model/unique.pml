/*
 * Documents that meet in a unique value: 3 documents, 2 values, a writer, 2 flushers, and what can go wrong.
 *
 * Each d_step is one atomic step: a Lua script in Redis, or one operation in MongoDB. README.md says what is left out.
 * Leases are left out: any flusher may take any pending document at any moment, as when all leases have run out. So
 * the versions alone must keep two flushers of one document apart, as they do in protocol.pml.
 */

#define DOCUMENTS 3
#define FLUSHERS 2
#ifndef VALUES
#define VALUES 2
#endif
#ifndef WRITES
#define WRITES 2
#endif
#ifndef FAULTS
#define FAULTS 0
#endif
#define TRIES 4

/* Redis. A value of 0 is none. `awaited` is noted for a document and one that waits for it. */
byte version[DOCUMENTS], value[DOCUMENTS], dead[DOCUMENTS];
bool awaited[9];
#define AWAITED(e, d) awaited[3 * (e) + d]
bool pending[DOCUMENTS];
byte clock;

/* MongoDB: 0 where there is no document. `cleared`: its value was taken from it, and it has the rest. */
byte mongo[DOCUMENTS], stored[DOCUMENTS];

bool written;
byte faults = FAULTS;

#define OTHER(d, e) (d != e && mongo[e] != 0 && stored[e] == hand_value)

inline commit(d, v) {
    clock++;
    version[d] = clock;
    value[d] = v;
    pending[d] = true;
    dead[d] = 0
}

active proctype writer() {
    byte d, v, n;
    /* Each document has a value of its own, or none, and MongoDB has that. */
    d_step {
        for (d : 0 .. DOCUMENTS - 1) {
            clock++;
            version[d] = clock;
            value[d] = (d < VALUES -> d + 1 : 0);
            mongo[d] = clock;
            stored[d] = value[d]
        }
        d = 0
    }
    do
    :: n < WRITES ->
        atomic {
            select(d : 0 .. DOCUMENTS - 1);
            select(v : 0 .. VALUES);
            d_step { commit(d, v); n++; d = 0; v = 0 }
        }
    :: else -> break
    od;
    written = true
}

#define CRASH_OR_GO_ON  if :: faults > 0 -> faults--; goto done :: true fi

/* Replay the letters that wait for a document. Notes stay until the document that waits is in MongoDB: a flusher that
   was stopped may bury it once more. */
inline changed(e) {
#ifndef NO_REPLAY
    d_step {
        for (i : 0 .. DOCUMENTS - 1) {
            if
            :: AWAITED(e, i) && dead[i] != 0 && value[e] != value[i] ->
                pending[i] = true; dead[i] = 0;
#ifdef FORGET_AT_REPLAY
                AWAITED(e, i) = false
#endif
            :: AWAITED(e, i) && dead[i] == 0 && !pending[i] -> AWAITED(e, i) = false
            :: else
            fi
        }
        i = 0
    }
#else
    skip
#endif
}

inline settle(d) {
    d_step {
        if
        :: version[d] == hand_version ->
            pending[d] = false;
            dead[d] = 0
        :: else
        fi
    }
}

inline bury(d) {
    d_step {
        if
        :: version[d] == hand_version && pending[d] -> pending[d] = false; dead[d] = hand_version
        :: else
        fi
    }
}

active [FLUSHERS] proctype flusher() {
    /* The documents on the way to the one that is written, and what was read of each. */
    byte path[DOCUMENTS], versions[DOCUMENTS], values[DOCUMENTS];
    byte depth, tries, d, e, i, holder, seen, hand_version, hand_value;
    bool is_pending, is_dead, shares, carries, on_path, refused;

idle:
end:
    atomic {
        pending[0] || pending[1] || pending[2];
        if
        :: pending[0] -> d = 0
        :: pending[1] -> d = 1
        :: pending[2] -> d = 2
        fi;
        path[0] = d; versions[0] = version[d]; values[0] = value[d]; depth = 0; tries = 0
    }
    do
    :: d_step {
           d = path[depth]; hand_version = versions[depth]; hand_value = values[depth];
           refused = false; holder = 0; seen = 0;
           if                                               /* one operation of a bulk write */
           :: mongo[d] >= hand_version
           :: mongo[d] < hand_version ->
               if
               :: hand_value != 0 && OTHER(d, 0) -> refused = true; holder = 0; seen = mongo[0]
               :: hand_value != 0 && OTHER(d, 1) -> refused = true; holder = 1; seen = mongo[1]
               :: hand_value != 0 && OTHER(d, 2) -> refused = true; holder = 2; seen = mongo[2]
               :: else -> mongo[d] = hand_version; stored[d] = hand_value
               fi
           fi
       }
       if
       :: atomic { !refused -> CRASH_OR_GO_ON };
          changed(d);
          atomic { true; CRASH_OR_GO_ON };
          settle(d);
          if
          :: depth == 0 -> goto done
          :: else -> depth--                                /* and try the one again that waits for it */
          fi
       :: refused && tries >= TRIES -> goto done            /* others are faster: it stays pending */
       :: refused && tries < TRIES ->
          tries++;
          d_step {                                          /* what Redis has of the holder */
              is_pending = pending[holder]; is_dead = (dead[holder] != 0);
              shares = (value[holder] == hand_value); carries = shares;
              on_path = false;
              for (i : 0 .. DOCUMENTS - 1) {
                  if
                  :: i <= depth && path[i] == holder -> on_path = true
                  :: else
                  fi
              }
              i = 0
          }
#ifdef NO_ORDER
          carries = true;
#endif
          if
          :: carries ->
              assert(shares);                               /* who has the value goes on having it */
#ifndef BURY_WITHOUT_REPLAY
              changed(d);                                   /* it has given up what it has in MongoDB */
#endif
              atomic { true; CRASH_OR_GO_ON };
#ifdef BURY_BEFORE_AWAIT
              bury(d);
              atomic { true; CRASH_OR_GO_ON };
#endif
              AWAITED(holder, d) = true;
              atomic { true; CRASH_OR_GO_ON };
#ifndef BURY_BEFORE_AWAIT
              bury(d);
              atomic { true; CRASH_OR_GO_ON };
#endif
#ifndef AWAIT_WITHOUT_LOOK
              if
              :: value[holder] != hand_value || mongo[holder] == 0 || stored[holder] != hand_value ->
                  d_step { if :: dead[d] != 0 -> pending[d] = true; dead[d] = 0 :: else fi }
              :: else
              fi;
#endif
              if
              :: depth == 0 -> goto done
              :: depth > 0 ->                               /* it has given up what the one before it needs */
                  d_step {
                      e = d; depth--;
                      if
                      :: mongo[e] < version[e] && stored[e] == values[depth] && value[e] != values[depth] &&
                         dead[e] != 0 -> stored[e] = 0
                      :: else
                      fi
                  }
              fi
          :: !carries && !is_pending && !is_dead            /* it was just settled */
          :: !carries && !is_pending && is_dead ->
              d_step { if :: mongo[holder] == seen -> stored[holder] = 0 :: else fi }
          :: !carries && is_pending && on_path ->
#ifdef NO_VACATION
              bury(d); goto done
#else
              atomic {
                  if
                  :: mongo[holder] == seen -> stored[holder] = 0                        /* it has the rest */
                  :: mongo[holder] == seen -> mongo[holder] = 0; stored[holder] = 0     /* where the field is required */
                  :: mongo[holder] != seen
                  fi
              }
#endif
          :: !carries && is_pending && !on_path ->
              d_step {
                  depth++;
                  path[depth] = holder; versions[depth] = version[holder]; values[depth] = value[holder]
              }
          fi
       fi
    od;

done:
    skip;
    d_step {
        for (i : 0 .. DOCUMENTS - 1) { path[i] = 0; versions[i] = 0; values[i] = 0 }
        depth = 0; tries = 0; d = 0; e = 0; i = 0; holder = 0; seen = 0; hand_version = 0;
        hand_value = 0; is_pending = false; is_dead = false; shares = false; carries = false; on_path = false; refused = false
    }
    goto idle
}

#if FAULTS > 0 && !defined(NO_SWEEP)
/* sweep: who waits for a document that has given its value up is tried again. */
#define OUTDATED(e, d) (AWAITED(e, d) && dead[d] != 0 && value[e] != value[d])
active proctype sweep() {
    byte d, e;
end:
    do
    :: atomic { select(d : 0 .. DOCUMENTS - 1); select(e : 0 .. DOCUMENTS - 1);
           if
           :: OUTDATED(e, d) -> pending[d] = true; dead[d] = 0
           :: else
           fi;
           d = 0; e = 0 }
    od
}
#define SWEPT(d) (!OUTDATED(0, d) && !OUTDATED(1, d) && !OUTDATED(2, d))
#else
#define SWEPT(d) true
#endif

#define SHARED(d) (value[d] != 0 && ((d != 0 && value[0] == value[d]) || (d != 1 && value[1] == value[d]) \
                   || (d != 2 && value[2] == value[d])))
#define CONVERGED(d) ((mongo[d] == version[d] && stored[d] == value[d]) || (dead[d] == version[d] && SHARED(d)))

/* Once everybody is done, MongoDB has what was acknowledged last, or a value that two documents were given is a letter. */
active proctype outcome() {
    (written && !pending[0] && !pending[1] && !pending[2] &&
        SWEPT(0) && SWEPT(1) && SWEPT(2) && flusher[1]@end && flusher[2]@end);
    assert(CONVERGED(0));
    assert(CONVERGED(1));
    assert(CONVERGED(2))
}
