#!/usr/bin/env bash
# One L4 of 24 GB, for models up to 1.5B. See serve.sh and the sizing table: its memory is fourteen times slower than an H200's.
set -euo pipefail

# Ada multiplies in fp8: half the bytes of bf16 a pass. A checkpoint already in int4 halves them once more, and is what keeps the
# budget at 1.5B: serve it with QUANTIZATION= (empty).
QUANTIZATION=${QUANTIZATION-fp8_per_channel}

gpu=(
  --max-num-batched-tokens=512         # someone else's prompt stalls every future by 13 ms at 1.5B in fp8; at the default of 2048, by 52
  --max-num-seqs=32                    # 6 evaluations of five; at 1.5B in int4 the slow one in twenty keeps 800 ms beside 3 others
  --max-num-queued-reqs=64             # as many waiting as running: a place is free within some 15 tokens. Then 503; the default never ends
)
source "$(dirname "${BASH_SOURCE[0]}")/serve.sh"
