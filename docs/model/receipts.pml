/*
 * Writes with a key: 2 clients that repeat an increment until it is answered, and requests that may be lost anywhere.
 *
 * A request reads the document, and commits what it makes of it if nobody came before. The step that commits looks for
 * the receipt of the key first, and leaves one as it writes. A client sends its request again whenever it likes, so two
 * with one key may be at work at the same time; a request, or its answer, may be lost at any step, and each costs a
 * fault. README.md says what is left out. The variants of check.py break it on purpose, each by a macro of its own.
 */

#define CLIENTS 2       /* each has one key, and the document counts them */
#define REQUESTS 4      /* at the same time, two of each client */
#ifndef FAULTS
#define FAULTS 2
#endif
#define LEAP 20         /* of versions, when a replica has become the primary */

/* Redis: the document, and the value in the receipt of each key, 0 for none. `counted`: how often a key is in the
   document's value, which only the model knows. */
typedef Server { byte n; byte version; bool pending; byte receipt[CLIENTS]; byte counted[CLIENTS] };
Server redis;
byte epoch;             /* 1 after a failover */

/* MongoDB: the value. */
byte mongo;

/* What only the model knows. `lost`: the client was answered, and a failover has lost that. */
bool answered[CLIENTS], lost[CLIENTS];
byte told[CLIENTS], at_work = REQUESTS;
byte faults = FAULTS;

#ifdef FAILOVER
Server replica;
#define FAILED_OVER (epoch == 1)
#define EPOCHS true
#else
#define FAILED_OVER true
#define EPOCHS false
#endif

#define LOSE_OR_GO_ON  if :: faults > 0 -> faults--; goto gone :: true fi

#if defined(NO_RECEIPT) || defined(RECEIPT_FIRST) || defined(LOOK_BEFORE)
#define REPEATED(key) false
#else
#define REPEATED(key) (redis.receipt[key] != 0)
#endif

/* One request after the other of the client whose key it has, until one is answered. There are two for each client, so
   one may be at work while the client has given up waiting for the other. `seen_in`: the epoch in which it has learnt
   its answer. */
active [REQUESTS] proctype request() {
    byte seen, seen_version, seen_in, value;
    byte key = _pid % CLIENTS;
begin:
    if
    :: answered[key] -> goto out
    :: true
    fi;
    do
    :: true ->
#ifdef LOOK_BEFORE
        d_step { value = redis.receipt[key]; seen_in = epoch };
        if :: value -> break :: else fi;
#endif
        atomic { seen = redis.n; seen_version = redis.version };
#ifdef RECEIPT_FIRST
        d_step {
            value = redis.receipt[key]; seen_in = epoch;
            if :: !value -> redis.receipt[key] = seen + 1 :: else fi
        };
        if :: value -> break :: else fi;
#endif
        atomic {                                        /* commit */
            LOSE_OR_GO_ON;
            seen_in = epoch;
            if
            :: REPEATED(key) -> value = redis.receipt[key]
            :: !REPEATED(key) && redis.version == seen_version ->
                value = seen + 1;
                redis.n = value;
                redis.version++;
                redis.pending = true;
                redis.counted[key]++;
                assert(redis.counted[key] == 1);        /* it counts once */
#ifndef RECEIPT_AFTER
                redis.receipt[key] = value
#endif
            :: else -> seen = 0; seen_version = 0       /* somebody came before */
            fi
        };
        if :: value -> break :: else fi
    od;
#ifdef RECEIPT_AFTER
    LOSE_OR_GO_ON;
    redis.receipt[key] = value;
#endif
    atomic {                                            /* its answer */
        LOSE_OR_GO_ON;
        assert(!answered[key] || told[key] == value || EPOCHS);     /* all are told the same */
        answered[key] = true;
        told[key] = value;
        if :: seen_in < epoch && redis.counted[key] == 0 -> lost[key] = true :: else fi;
        goto out
    };
gone:
    atomic { seen = 0; seen_version = 0; seen_in = 0; value = 0; goto begin };
out:
    skip;
    d_step { seen = 0; seen_version = 0; seen_in = 0; value = 0; at_work-- }
}

active proctype flusher() {
end:
    do                                                  /* protocol.pml has its steps */
    :: d_step { redis.pending -> mongo = redis.n; redis.pending = false }
    od
}

#ifdef FAILOVER
inline copy(from, to) {
    to.n = from.n; to.version = from.version; to.pending = from.pending;
    for (i : 0 .. CLIENTS - 1) {
        to.counted[i] = from.counted[i];
#ifndef RECEIPTS_ELSEWHERE
        to.receipt[i] = from.receipt[i]
#endif
    }
    i = 0
}

/* A replica that is cut off at any moment takes the primary's place at any later one. Whoever was answered in between
   is not asked to repeat it; whoever was not, repeats it. */
active proctype failover() {
    byte i;
    d_step { copy(redis, replica) };
    d_step {
        copy(replica, redis);
        redis.version = redis.version + LEAP;
        redis.pending = true;                           /* the flusher brings what stands, whatever was lost */
        epoch = 1;
        for (i : 0 .. CLIENTS - 1) {
            lost[i] = answered[i] && redis.counted[i] == 0
        }
    }
}
#endif

/* When all is quiet, each increment is there once, in Redis and in MongoDB: none is unknown. */
active proctype outcome() {
    (at_work == 0 && !redis.pending && FAILED_OVER);
    assert(answered[0] && answered[1]);
    assert(redis.counted[0] == 1 || lost[0]);
    assert(redis.counted[1] == 1 || lost[1]);
    assert(redis.n == redis.counted[0] + redis.counted[1]);
    assert(mongo == redis.n)
#ifndef FAILOVER
    ;
    assert(told[0] + told[1] == 3)                      /* one is told 1, the other 2 */
#endif
}
