#!/bin/sh
# Makes what nobody may know: a key of the API that may do everything, and the passwords of the servers, each once. Then it
# writes the URLs of the profile, with the passwords in the place of PASSWORD, for those who connect. Each part has a volume
# of its own, which is mounted where it is needed: /keys in our processes, /password in the servers.
set -eu
keys=${KEYS:-/keys} redis=${REDIS_PASSWORDS:-/passwords/redis} mongo=${MONGO_PASSWORDS:-/passwords/mongo}
rabbitmq=${RABBITMQ_PASSWORDS:-/passwords/rabbitmq}
# At once, as one that was cut off in the middle would be kept.
into() { cat > "$1.new"; mv "$1.new" "$1"; }
random() { head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n'; }

writebehind keys generate "$keys/root"
# Users of other images read these.
umask 022
for place in "$redis" "$mongo" "$rabbitmq"; do
  [ -s "$place/password" ] || random | into "$place/password"
done
printf 'requirepass %s\nmasterauth %s\n' "$(cat "$redis/password")" "$(cat "$redis/password")" | into "$redis/valkey.conf"
# Of Sentinels, which watch `main`, and ask for the same password: who tells them of another server is sent it.
printf 'requirepass %s\nsentinel sentinel-pass %s\nsentinel auth-pass main %s\n' \
  "$(cat "$redis/password")" "$(cat "$redis/password")" "$(cat "$redis/password")" | into "$redis/sentinel.conf"
# What RabbitMQ takes over at each start: a user, and that `guest`, whose password everybody knows, has none to log in with.
hash() { python -c 'import base64, hashlib, os, sys
salt, password = os.urandom(4), sys.stdin.buffer.read()
print(base64.b64encode(salt + hashlib.sha256(salt + password).digest()).decode())' < "$1"; }
cat << END | into "$rabbitmq/definitions.json"
{"vhosts": [{"name": "/"}],
 "users": [{"name": "writebehind", "password_hash": "$(hash "$rabbitmq/password")", "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": []},
           {"name": "guest", "password_hash": "", "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": []}],
 "permissions": [{"user": "writebehind", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}]}
END
umask 077
url() { printf '%s' "$2" | sed "s/:PASSWORD@/:$(cat "$3/password")@/g; s/_password=PASSWORD/_password=$(cat "$3/password")/" | into "$keys/$1"; }
url redis-url "$REDIS_URL" "$redis"
case $BROKER_URL in
  amqp*) url broker-url "$BROKER_URL" "$rabbitmq" ;;
  *) url broker-url "$BROKER_URL" "$redis" ;;
esac
url mongodb-url "$MONGODB_URL" "$mongo"
