#!/usr/bin/env bash
# Builds the image on a base of Debian's packages, without a registry of images, and lets three containers of
# it meet. It needs root, buildah and mmdebstrap; containers are folders here (chroot isolation), all in one
# network of their own.
set -euo pipefail
cd "$(dirname "$0")/../.."
step() { printf '%4s s  %s\n' "$SECONDS" "$1"; }
export FOLDER
FOLDER=$(mktemp -d)
trap 'rm -rf "$FOLDER"' EXIT
buildah() { command buildah --storage-driver vfs --root "$FOLDER/images" --runroot "$FOLDER/run" "$@"; }
export -f buildah

step "what pip takes from the network"
mkdir "$FOLDER/source"
git ls-files -z | xargs -0 cp --parents --target-directory "$FOLDER/source"
python3 -c 'import tomllib; found = tomllib.load(open("pyproject.toml", "rb")); project = found["project"]; \
    extras = project["optional-dependencies"]; \
    print(*found["build-system"]["requires"], *project["dependencies"], *extras["http"], *extras["web"], sep="\n")' \
    > "$FOLDER/requirements.txt"
python3 -m pip download --quiet --dest "$FOLDER/source/wheels" --requirement "$FOLDER/requirements.txt" \
    --python-version 3.11 --only-binary :all:

step "a base of Debian's packages"
mkdir "$FOLDER/base"
mmdebstrap --quiet --variant=minbase --dpkgopt=force-unsafe-io --include=python3-venv,python3-dev,gcc,libc6-dev \
    bookworm "$FOLDER/base/base.tar"
printf 'FROM scratch\nADD base.tar /\n' > "$FOLDER/base/Containerfile"
buildah bud --quiet --isolation chroot --tag localhost/base "$FOLDER/base"
rm "$FOLDER/base/base.tar"

step "the image"
(cat release/container/Containerfile.dockerignore && echo '!wheels') > "$FOLDER/ignored"
buildah bud --quiet --isolation chroot --format docker --ignorefile "$FOLDER/ignored" \
    --build-arg BASE=localhost/base --build-arg PIP_OPTIONS="--no-index --find-links /source/wheels" \
    --tag phextsync --file release/container/Containerfile "$FOLDER/source"

step "three containers"
timeout 300 unshare --net --pid --fork --kill-child --mount-proc bash release/container/meet.sh
step "done"
