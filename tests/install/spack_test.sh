#!/usr/bin/env bash
# Spack really installs moesaic; skipped where there is none.
exec "$(dirname "$0")/../../tools/spack/check"
