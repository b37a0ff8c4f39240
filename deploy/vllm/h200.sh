#!/usr/bin/env bash
# One H200 or H100. See serve.sh.
set -euo pipefail

# Hopper multiplies in fp8: half the bytes of bf16 a pass, twice the arithmetic. A scale for each output channel and each token,
# made while loading. (Plain `fp8` is deprecated for that, and means one scale a layer.)
QUANTIZATION=${QUANTIZATION-fp8_per_channel}

gpu=(
  --max-num-batched-tokens=1024        # someone else's prompt stalls every future by 15 ms at 7B in fp8; at the default of 8192, by 117
  --max-num-seqs=128                   # 25 evaluations of five; at 7B in fp8 the slow one in twenty keeps 800 ms beside 14 others
  --max-num-queued-reqs=256            # as many waiting as running: a place is free within some 15 tokens. Then 503; the default never ends
)
source "$(dirname "${BASH_SOURCE[0]}")/serve.sh"
