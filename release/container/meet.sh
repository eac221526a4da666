#!/usr/bin/env bash
# What check.sh runs where nobody else listens: three containers of the image with a folder each for /data. The
# first runs what the image says, and is asked for its health as the image says.
set -euo pipefail
ip link set lo up
said() { # said ENTRY: what the image's configuration has there, one to a line
    buildah inspect --type image phextsync | python3 -c 'import json, sys
found = json.load(sys.stdin)["Docker"]["config"]
for name in sys.argv[1].split("."): found = found[name]
print(*([found] if isinstance(found, str) else found), sep="\n")' "$1"
}
run() { # run NODE COMMAND ...
    buildah run --isolation chroot --volume "$FOLDER/$1:/data" "$1" -- "${@:2}"
}
[ "$(said User)" = 7439 ]
[ "$(said Entrypoint)" = phextsync ]
mapfile -t command < <(said Cmd)
mapfile -t health < <(said Healthcheck.Test)
[ "${health[0]}" = CMD ]
for name in node-1 node-2 node-3; do
    buildah from --quiet --name "$name" phextsync
    install --directory --owner 7439 --mode 0700 "$FOLDER/$name"
done

code=$(run node-1 phextsync init --name node-1 | grep --only-matching 'phextsync join .*' | cut -d ' ' -f 3)
run node-2 phextsync join --name node-2 "$code"
run node-3 phextsync join --name node-3 "$code"
run node-1 phextsync "${command[@]}" &
run node-2 phextsync up --port 7541 --no-mdns --peer 127.0.0.1 &
run node-3 phextsync up --port 7542 --no-mdns --peer 127.0.0.1 --peer 127.0.0.1:7541 &
place=1.1.1/1.1.1/1.1.1
until run node-1 phextsync status; do sleep 1; done >/dev/null 2>&1
run node-1 phextsync set "$place" met
for name in node-2 node-3; do
    until [ "$(run "$name" phextsync get "$place" 2>/dev/null)" = met ]; do sleep 1; done
done
run node-1 "${health[@]:1}"
echo "three containers met as user $(stat --format %u "$FOLDER/node-3/identity.pem"), and the first is healthy"
