#!/usr/bin/env bash
# Serves the world model: what all GPUs have in common. h200.sh, a100.sh and l4.sh set what differs and end here.
#
#   CHECKPOINT=/models/world deploy/vllm/h200.sh [more flags of vllm serve]
#
# CHECKPOINT is a folder: merged weights, tokenizer.json, and the manifest.json that the service holds the server to.
# HOST, PORT, QUANTIZATION (empty: as the checkpoint is), SPECULATE=1, VLLM (the command). DRY_RUN=1 prints, an argument a line.
set -euo pipefail

: "${CHECKPOINT:?the folder of the checkpoint to serve}"
for file in config.json tokenizer.json manifest.json; do
  [[ -f $CHECKPOINT/$file ]] || { echo "serve.sh: $CHECKPOINT has no $file" >&2; exit 2; }
done
[[ -v gpu ]] || { echo "serve.sh: run h200.sh, a100.sh or l4.sh" >&2; exit 2; }

export VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1   # nothing about proposals or callers leaves the machine
export HF_HUB_OFFLINE=1                       # the checkpoint is a folder: a name that is mistyped must not be fetched
export VLLM_MAX_N_SEQUENCES=1                 # a future is a request of its own: n > 1 is somebody else's (default 16384)
export VLLM_USE_FLASHINFER_SAMPLER=0          # it serves top-k and top-p alone, never asked for; without FlashInfer installed, 1 ends the start

flags=(
  --served-model-name=world            # PREMORTEM_VLLM_MODEL
  --host="${HOST:-127.0.0.1}"          # an API key guards /v1 and not /tokenize or /metrics: elsewhere only behind a network policy
  --port="${PORT:-8001}"               # 8000 is the service's
  --max-model-len=2048                 # 900 of a prompt, twenty turns of a future and what is being said; the service refuses less
  --generation-config=vllm             # a checkpoint's generation_config.json would bring its own top-p and penalties

  # latency
  --performance-mode=interactivity     # a CUDA graph for every batch from 1 to 32; else five futures are padded to eight
  --enable-prefix-caching              # what a future has lived through is read once, and its prompt once for all futures
  --scheduling-policy=priority         # without it the service's `priority` is ignored
  --gpu-memory-utilization=0.90        # what the sizing table counts with (default 0.92)

  # odds
  --logprobs-mode=raw_logprobs         # risk is read from the model, not from what temperature and bias made of it
  --max-logprobs=128                   # for engines that cannot be asked for chosen ids: top-K must hold every outcome

  # in and out
  --shutdown-timeout=10                # seconds to finish what runs; a request takes under one. Default 0: aborts
  --fail-on-environ-validation         # a mistyped VLLM_ variable ends the start instead of being ignored
  --disable-uvicorn-access-log         # some thirty requests an evaluation
  --enable-prompt-tokens-details       # tells how much of a prompt the cache held
)
if [[ ${QUANTIZATION:-} ]]; then
  flags+=(--quantization="$QUANTIZATION")
fi
if [[ ${SPECULATE:-} ]]; then
  # Drafts are copied from the prompt, which states repeat. Off: vLLM 0.32 refuses `logit_bias` beside it (400) and forgets
  # `logprob_token_ids` in a batch with drafts. The service then reads the twenty likeliest tokens. See README.md.
  # ngram_gpu, as plain ngram switches off scheduling ahead of the GPU.
  flags+=(--speculative-config='{"method":"ngram_gpu","num_speculative_tokens":4,"prompt_lookup_min":2,"prompt_lookup_max":4}')
fi

command=("${VLLM:-vllm}" serve "$CHECKPOINT" "${flags[@]}" "${gpu[@]}" "$@")
if [[ ${DRY_RUN:-} ]]; then
  printf '%s\n' "${command[@]}"
  exit
fi
exec "${command[@]}"
