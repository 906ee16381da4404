#!/bin/sh
# Starts Valkey as one of several, with the password that `secrets.sh` made. Sentinel and a cluster note in the file on the volume who leads: it is written once, and never anew.
#   valkey.sh server                 one of three that Sentinels watch; HOSTNAME redis-1 begins as primary
#   valkey.sh sentinel               watches them as `main`; two of three must agree
#   valkey.sh node                   one of a cluster
#   valkey.sh create NODE…           makes a cluster of nodes that answer, with a replica for each primary, unless there is one
set -eu
file=/data/$1.conf
name=$(hostname)
keep() { [ -s "$file" ] || { cat > "$file.new"; mv "$file.new" "$file"; }; }
durable="dir /data
protected-mode no
appendonly yes
appendfsync everysec
maxmemory 512mb
maxmemory-policy volatile-lru"

case $1 in
  server)
    # Without one replica that keeps up, a primary takes no writes: what it alone had would be lost with it.
    keep << END
$durable
replica-announce-ip $name
min-replicas-to-write 1
min-replicas-max-lag 3
replica-serve-stale-data no
$([ "$name" = redis-1 ] || echo "replicaof redis-1 6379")
END
    exec valkey-server "$file" --include /password/valkey.conf ;;
  sentinel)
    keep << END
dir /data
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel announce-ip $name
sentinel monitor main redis-1 6379 2
sentinel down-after-milliseconds main 5000
sentinel failover-timeout main 15000
END
    exec valkey-sentinel "$file" --include /password/sentinel.conf ;;
  node)
    # No `min-replicas-to-write`: with one replica each, a shard would take no writes after a failover until its former
    # primary is back. Where each primary has two, set it to 1, else what one that is cut off acknowledges is lost.
    keep << END
$durable
cluster-enabled yes
cluster-config-file nodes.conf
cluster-node-timeout 3000
cluster-require-full-coverage no
cluster-announce-hostname $name
cluster-preferred-endpoint-type hostname
END
    exec valkey-server "$file" --include /password/valkey.conf ;;
  create)
    shift
    first=$1
    REDISCLI_AUTH=$(cat /password/password)
    export REDISCLI_AUTH
    info() { valkey-cli -h "$first" cluster info | tr -d '\r'; }
    if info | grep -qx 'cluster_known_nodes:1'; then
      # Nodes meet by address.
      for node; do
        shift
        set -- "$@" "$(getent hosts "$node" | cut -d ' ' -f 1):6379"
      done
      valkey-cli --cluster create "$@" --cluster-replicas 1 --cluster-yes
    fi
    tries=60
    until info | grep -qx 'cluster_state:ok'; do
      [ $((tries -= 1)) -gt 0 ] || exit 1
      sleep 1
    done ;;
esac
