#!/bin/sh
# What COMPILE_DEPLOY runs in a clean checkout. Its output, `dist`, becomes the release.
set -eu
echo "building commit $DEPLOYD_COMMIT as $(id -un)"
mkdir -p dist/bin
cp server.sh dist/bin/server
chmod 755 dist/bin/server
echo "api $DEPLOYD_COMMIT" > dist/VERSION
