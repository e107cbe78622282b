#!/bin/sh
# Find the minimum of a bowl by gradient descent, in a loop of the shell: the smallest "training script" there is.
# Settings are variables, which may come from outside.
LR=${LR:-0.02}
MOMENTUM=${MOMENTUM:-0.0}
MAX_STEPS=200
SEED=${SEED:-0}

step=0
state="4 0"
while [ "$step" -lt "$MAX_STEPS" ]; do
    step=$((step + 1))
    state=$(echo "$state" | awk -v lr="$LR" -v m="$MOMENTUM" '{ v = m * $2 - lr * $1; print $1 + v, v }')
    if [ $((step % 5)) -eq 0 ]; then
        echo "$state" | awk -v step="$step" '{ printf "METRIC step=%d eval_loss=%.6f\n", step, $1 * $1 }'
    fi
done
