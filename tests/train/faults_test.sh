#!/usr/bin/env bash
# The short form of the fault campaign. Usage: faults_test.sh PROGRAM
exec "$(dirname "$0")/../../tools/faults" --short --seed 1 "$1"
