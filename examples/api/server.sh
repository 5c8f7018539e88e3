#!/bin/sh
# Stands for your program. A container is started in its release.
exec "$SERVER" demo-service "$PORT" "$(cat VERSION)"
