#!/bin/sh
# Makes what nobody may know: a key of the API that may do everything, and the passwords of the servers, each once. Then it
# writes the URLs of the profile, with the passwords in the place of PASSWORD, for those who connect. Each part has a volume
# of its own, which is mounted where it is needed: /keys in our processes, /password in the servers.
set -eu
keys=${KEYS:-/keys} redis=${REDIS_PASSWORDS:-/passwords/redis} mongo=${MONGO_PASSWORDS:-/passwords/mongo}
# At once, as one that was cut off in the middle would be kept.
into() { cat > "$1.new"; mv "$1.new" "$1"; }
random() { head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n'; }

writebehind keys generate "$keys/root"
# Users of other images read these.
umask 022
for place in "$redis" "$mongo"; do
  [ -s "$place/password" ] || random | into "$place/password"
done
printf 'requirepass %s\nmasterauth %s\n' "$(cat "$redis/password")" "$(cat "$redis/password")" | into "$redis/valkey.conf"
# Of Sentinels, which watch `main`, and ask for the same password: who tells them of another server is sent it.
printf 'requirepass %s\nsentinel sentinel-pass %s\nsentinel auth-pass main %s\n' \
  "$(cat "$redis/password")" "$(cat "$redis/password")" "$(cat "$redis/password")" | into "$redis/sentinel.conf"
umask 077
url() { printf '%s' "$2" | sed "s/:PASSWORD@/:$(cat "$3/password")@/g; s/_password=PASSWORD/_password=$(cat "$3/password")/" | into "$keys/$1"; }
url redis-url "$REDIS_URL" "$redis"
url broker-url "$BROKER_URL" "$redis"
url mongodb-url "$MONGODB_URL" "$mongo"
