"""Premortem, online: one proposal in, one verdict out.

__main__           the command `premortem`: serve, demo, settings, keys, audit, permit
demo, server       the worked cases told to a person; the socket
app                wires the rooms
house              builds the adapters that the settings ask for
upkeep             what is done without being asked: expiry, notes in the audit chain, switches
settings, manual   everything an operator may set; the page that tells of it
policies           the policies in force: as they ship, or as files say
api/               HTTP: evaluations, decisions, switches, domains, health; who may; problem+json
guardrail          gate, simulate, judge, record
admission, record  how much may be promised at once; from verdict to decision
concurrency, pace  how many at once is good; how long things take
split              which checkpoint an evaluation is given to
simulator/         many steps: N futures side by side
verdicts/          pure: futures to risk, risk to ruling, ruling to words
decisions/         the ledger (sqlite, redis), the audit chain, permits
world/             one step: vllm, local, cases, scripted
anchors/           recorded history: edge, qdrant
deadline, errors   how long there is left; everything that can go wrong
log, tracing       a line of JSON for each decision; spans, where somebody collects them
metrics, window    every instrument; what the last few hundred values say
domains/           helpdesk, safety, triage
vocabulary/        what the words mean
"""
