#!/usr/bin/env bash
# One A100 of 80 GB. See serve.sh.
set -euo pipefail

# Ampere has no fp8 arithmetic. Weights are kept in fp8 and widened in the kernel (Marlin, W8A16): half the bytes a pass, bf16
# arithmetic. fp8_per_channel refuses Ampere, so there is one scale a layer. More exact, or faster, and both with QUANTIZATION= (empty):
# a checkpoint as it is in bf16, or one already in int4 (AWQ, GPTQ), which is served by Marlin too.
QUANTIZATION=${QUANTIZATION-fp8_per_tensor}

gpu=(
  --max-num-batched-tokens=512         # someone else's prompt stalls every future by 46 ms at 7B; at the default of 2048, by 186
  --max-num-seqs=64                    # 12 evaluations of five; at 1.5B the slow one in twenty keeps 800 ms beside 10 others
  --max-num-queued-reqs=128            # as many waiting as running: a place is free within some 15 tokens. Then 503; the default never ends
)
source "$(dirname "${BASH_SOURCE[0]}")/serve.sh"
