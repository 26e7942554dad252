#!/bin/sh
# A worker that is a program of its own and starts node by itself, as `npm start` does: nothing is preloaded.
exec "$NODE" "$APP"
